"""Configs of the OTLP exporters: defaults, endpoints, refusals, lazy import."""

from __future__ import annotations

import subprocess
import sys

import pytest

from otel_oom.config.types import Secret
from otel_oom.exporters import otlp_grpc, otlp_http
from otel_oom.exporters.otlp_grpc.config import KeepaliveConfig, Target
from otel_oom.http import message as http_message
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.tls import TlsConfig


@pytest.mark.parametrize(
    ("endpoint", "insecure", "expected"),
    [
        ("host:4317", None, Target("host:4317", tls=True)),
        ("host:4317", True, Target("host:4317", tls=False)),
        ("http://host:4317", None, Target("host:4317", tls=False)),
        ("http://host:4317/", False, Target("host:4317", tls=False)),
        ("https://host:4317", True, Target("host:4317", tls=True)),
        ("[::1]:4317", None, Target("[::1]:4317", tls=True)),
        ("dns:///host:4317", None, Target("dns:///host:4317", tls=True)),
        ("dns:///host:4317", True, Target("dns:///host:4317", tls=False)),
        ("unix:/run/otel.sock", None, Target("unix:/run/otel.sock", tls=False)),
        ("unix:///run/otel.sock", False, Target("unix:///run/otel.sock", tls=True)),
    ],
)
def test_grpc_endpoints(endpoint, insecure, expected):
    assert Target.parse(endpoint, insecure) == expected


@pytest.mark.parametrize(
    "endpoint",
    ["host", "http://host", "ftp://h:1", "http://h:1/path", "http://u:p@h:1", "h:x", "a b:1"],
)
def test_grpc_endpoints_that_cannot_be_used_are_refused(endpoint):
    with pytest.raises(ValueError, match="must"):
        otlp_grpc.Config(endpoint=endpoint)


@pytest.mark.parametrize("module", [otlp_grpc, otlp_http])
def test_the_defaults_are_the_collectors(module):
    config = module.Config()

    assert config.compression is None  # gzip, unless the environment says otherwise
    assert config.timeout is None
    assert (otlp_grpc.config.DEFAULT_TIMEOUT_S, otlp_http.config.DEFAULT_TIMEOUT_S) == (5, 30)
    assert config.tls == TlsConfig(min_version="1.2")


@pytest.mark.parametrize(
    ("config", "signal", "host", "target"),
    [
        ({}, Signal.LOGS, "localhost:4318", "/v1/logs"),
        ({"endpoint": "http://h:1/base/"}, Signal.TRACES, "h:1", "/base/v1/traces"),
        ({"logs_endpoint": "https://h/x?y=1"}, Signal.LOGS, "h", "/x?y=1"),
        ({"logs_endpoint": "https://h/x"}, Signal.METRICS, "localhost:4318", "/v1/metrics"),
        ({"endpoint": "http://[::1]:4318"}, Signal.LOGS, "[::1]:4318", "/v1/logs"),
    ],
)
def test_http_endpoints(config, signal, host, target):
    url = otlp_http.Config(**config).url(signal)

    assert (url.authority, url.target) == (host, target)


@pytest.mark.parametrize(
    "endpoint",
    ["host:4318", "ftp://host", "http://", "http://u:p@h", "http://h/\r\nX: y", "http://h:99999"],
)
def test_http_endpoints_that_cannot_be_used_are_refused(endpoint):
    with pytest.raises(ValueError):
        otlp_http.Config(endpoint=endpoint)


def test_a_password_in_an_endpoint_is_not_repeated_in_the_message():
    with pytest.raises(ValueError) as caught:
        otlp_http.Config(endpoint="http://user:hunter2@host")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "values", "message"),
    [
        (otlp_grpc, {"tls": TlsConfig(insecure_skip_verify=True)}, "ca_file.*otlp_http"),
        (otlp_grpc, {"tls": TlsConfig(min_version="1.3")}, "min_version.*otlp_http"),
        (otlp_grpc, {"tls": TlsConfig(max_version="1.2")}, "max_version"),
        (otlp_grpc, {"timeout": -1.0}, "timeout"),
        (otlp_grpc, {"idle_timeout": -1.0}, "'idle_timeout' must not be negative"),
        (otlp_grpc, {"headers": {"te": Secret("x")}}, "'te' is set by the exporter"),
        (otlp_grpc, {"headers": {"grpc-x": Secret("x")}}, "set by the exporter"),
        (otlp_grpc, {"headers": {"bad name": Secret("x")}}, "no name of a header"),
        (otlp_http, {"headers": {"Content-Length": Secret("x")}}, "set by the exporter"),
        (otlp_http, {"headers": {"x": Secret("a\r\nb: c")}}, "one line"),
        (otlp_http, {"proxy_url": "http://proxy:3128"}, "not supported"),
        (otlp_http, {"timeout": -1.0}, "timeout"),
    ],
)
def test_what_cannot_work_is_refused_with_a_remedy(module, values, message):
    with pytest.raises(ValueError, match=message):
        module.Config(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"ca_file": "a", "ca_pem": "b"}, "exclude each other"),
        ({"cert_file": "a"}, "needs both"),
        ({"key_pem": Secret("a")}, "needs both"),
        ({"min_version": "1.3", "max_version": "1.2"}, "max_version"),
    ],
)
def test_tls_blocks_that_mean_nothing_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TlsConfig(**values)


@pytest.mark.parametrize("level", [0, 10])
def test_a_compression_level_that_gzip_has_not_is_refused(level):
    with pytest.raises(ValueError, match="level"):
        otlp_http.config.CompressionParams(level=level)


def test_a_secret_header_value_is_not_in_the_refusal():
    with pytest.raises(ValueError) as caught:
        otlp_http.Config(headers={"key": Secret("hunter2\n")})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "expected_s"),
    [
        ({}, 5),
        ({"idle_timeout": 90.0}, 90),
        ({"idle_timeout": 0.0}, 0),
        ({"keepalive": KeepaliveConfig()}, 5),
        ({"keepalive": KeepaliveConfig(permit_without_stream=True)}, 0),
        ({"keepalive": KeepaliveConfig(permit_without_stream=True), "idle_timeout": 90.0}, 90),
    ],
)
def test_pings_without_calls_ask_for_a_connection_that_stays(config, expected_s):
    assert otlp_grpc.Config(**config).idle_timeout_s == expected_s


@pytest.mark.parametrize("module", ["otlp_grpc", "otlp_http", "file"])
def test_importing_an_exporter_does_not_import_grpc(module):
    code = f"import sys, otel_oom.exporters.{module}; sys.exit('grpc' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_factories():
    assert otlp_grpc.FACTORY.aliases == ("otlp",)
    assert otlp_http.FACTORY.aliases == ("otlphttp",)
    assert set(otlp_grpc.FACTORY.signals) == set(Signal)


def test_url_host_header_can_be_replaced_but_not_doubled():
    url = http_message.Url.parse("http://h:1/x")
    head = http_message.request_head("POST", url, {"host": "other"}, 3).decode()

    assert head.split("\r\n")[:2] == ["POST /x HTTP/1.1", "host: other"]
    assert head.endswith("content-length: 3\r\n\r\n")
