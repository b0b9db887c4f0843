"""The standard variables fill what a config leaves out, and nothing else."""

from __future__ import annotations

import pytest

from otel_oom import errors
from otel_oom.config.types import Secret
from otel_oom.exporters import file, otlp_grpc, otlp_http
from otel_oom.pipeline.otlp import environment as otlp_env
from otel_oom.pipeline.tls import TlsConfig

ALL = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://env:1",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://env:2/traces",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://env:3/metrics",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://env:4/logs",
    "OTEL_EXPORTER_OTLP_HEADERS": "Api-Key=a%20b%2Cc, tenant = x",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
    "OTEL_EXPORTER_OTLP_CERTIFICATE": "/env/ca.pem",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/env/cert.pem",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/env/key.pem",
    "OTEL_EXPORTER_OTLP_INSECURE": "true",
}
TLS = TlsConfig(
    ca_file="/env/ca.pem", cert_file="/env/cert.pem", key_file="/env/key.pem", insecure=True
)
HEADERS = {"api-key": Secret("a b,c"), "tenant": Secret("x")}


@pytest.mark.parametrize("config", [otlp_grpc.Config(), otlp_http.Config(), file.Config(path="x")])
def test_without_variables_nothing_changes(config):
    assert otlp_env.fill(config, {}) == config
    assert otlp_env.fill(config, dict.fromkeys(ALL, "")) == config


def test_grpc_takes_all_but_the_endpoints_of_signals():
    assert otlp_env.fill(otlp_grpc.Config(), ALL) == otlp_grpc.Config(
        endpoint="http://env:1", headers=HEADERS, timeout=2.5, compression="none", tls=TLS
    )


def test_http_takes_the_endpoints_of_signals_too():
    assert otlp_env.fill(otlp_http.Config(), ALL) == otlp_http.Config(
        endpoint="http://env:1",
        traces_endpoint="http://env:2/traces",
        metrics_endpoint="http://env:3/metrics",
        logs_endpoint="http://env:4/logs",
        headers=HEADERS,
        timeout=2.5,
        compression="none",
        tls=TLS,
    )


def test_what_the_config_says_wins():
    tls = TlsConfig(ca_pem="text", cert_pem="c", key_pem=Secret("k"), insecure=False)
    config = otlp_http.Config(
        endpoint="http://config:1", headers={"a": Secret("b")}, timeout=0.0, compression="gzip",
        tls=tls,
    )  # fmt: skip

    assert otlp_env.fill(config, ALL) == config


def test_a_part_of_the_config_leaves_room_for_the_rest():
    config = otlp_grpc.Config(endpoint="http://config:1", tls=TlsConfig(ca_file="/own.pem"))
    filled = otlp_env.fill(config, ALL)

    assert (filled.endpoint, filled.tls.ca_file) == ("http://config:1", "/own.pem")
    assert (filled.timeout, filled.tls.cert_file) == (2.5, "/env/cert.pem")


def test_header_values_stay_secret():
    filled = otlp_env.fill(otlp_grpc.Config(), ALL)

    assert "a b,c" not in repr(filled)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "-1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "nan"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "no equals sign"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(name, text):
    with pytest.raises(errors.ComponentError, match=name):
        otlp_env.fill(otlp_grpc.Config(), {name: text})


@pytest.mark.parametrize(
    "environ",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "ftp://host"},
        {"OTEL_EXPORTER_OTLP_CLIENT_KEY": "/only/the/key.pem"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "key=line%0d%0abreak"},
    ],
)
def test_variables_that_make_a_bad_config_are_told_apart_from_it(environ):
    with pytest.raises(errors.ComponentError, match=r"OTEL_EXPORTER_OTLP_\* environment"):
        otlp_env.fill(otlp_http.Config(), environ)
