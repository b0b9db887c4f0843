"""The standard `OTEL_EXPORTER_OTLP_*` variables: they fill what the config leaves out.

Source: OpenTelemetry specification, protocol/exporter.md ("Configuration Options"). What the
config says wins, field by field.

variable, after `OTEL_EXPORTER_OTLP_`   fills
`ENDPOINT`                              `endpoint`
`{TRACES,METRICS,LOGS}_ENDPOINT`        `traces_endpoint`, … of otlp_http, used as they are
`HEADERS`                               `headers`: `key=value,key=value`, values percent-encoded
`TIMEOUT`                               `timeout`, in **milliseconds**
`COMPRESSION`                           `compression`: `gzip` or `none`
`CERTIFICATE`                           `tls.ca_file`
`CLIENT_CERTIFICATE`, `CLIENT_KEY`      `tls.cert_file`, `tls.key_file`
`INSECURE`                              `tls.insecure` of otlp_grpc: `true` or `false`
"""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from otel_oom import errors
from otel_oom.config.types import Duration, Secret

PREFIX = "OTEL_EXPORTER_OTLP_"

ConfigT = TypeVar("ConfigT")


def _headers(text: str) -> dict[str, Secret]:
    """`key=value` pairs as W3C Baggage writes them."""
    headers = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip():
            raise ValueError("it must read key=value,key=value")
        headers[key.strip().lower()] = Secret(urllib.parse.unquote(value.strip()))
    return headers


def _milliseconds(text: str) -> Duration:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError("it must be a number of milliseconds, 0 or more")
    return Duration(value / 1000)


def _compression(text: str) -> str:
    if text not in {"gzip", "none"}:
        raise ValueError("it must be gzip or none")
    return text


def _boolean(text: str) -> bool:
    return text.strip().lower() == "true"


_TABLE: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("endpoint", "ENDPOINT", str.strip),
    ("traces_endpoint", "TRACES_ENDPOINT", str.strip),
    ("metrics_endpoint", "METRICS_ENDPOINT", str.strip),
    ("logs_endpoint", "LOGS_ENDPOINT", str.strip),
    ("headers", "HEADERS", _headers),
    ("timeout", "TIMEOUT", _milliseconds),
    ("compression", "COMPRESSION", _compression),
    ("tls.ca_file", "CERTIFICATE", str.strip),
    ("tls.cert_file", "CLIENT_CERTIFICATE", str.strip),
    ("tls.key_file", "CLIENT_KEY", str.strip),
    ("tls.insecure", "INSECURE", _boolean),
)
"""(field, variable, how its text is read). An exporter without the field ignores the variable."""

_EQUIVALENT = {
    "traces_endpoint": "endpoint",
    "metrics_endpoint": "endpoint",
    "logs_endpoint": "endpoint",
    "tls.ca_file": "tls.ca_pem",
    "tls.cert_file": "tls.cert_pem",
    "tls.key_file": "tls.key_pem",
}
"""The other field by which a config can have said the same, so that the variable is ignored."""


def fill(config: ConfigT, environ: Mapping[str, str]) -> ConfigT:
    """Complete a config from the environment; `errors.ComponentError` names a bad variable.

    A field counts as left out when it is None or empty. An empty variable counts as unset.
    """
    found: dict[str, Any] = {}
    for field, suffix, read in _TABLE:
        text = environ.get(PREFIX + suffix, "")
        names = (field, _EQUIVALENT.get(field, field))
        if text and all(_left_out(config, name) for name in names):
            found[field] = _read(PREFIX + suffix, text, read)
    completed: ConfigT = _with(config, found)
    return completed


def _left_out(config: Any, field: str) -> bool:
    for name in field.split("."):
        if not hasattr(config, name):
            return False
        config = getattr(config, name)
    return config is None or config in ("", {})


def _read(variable: str, text: str, read: Callable[[str], Any]) -> Any:
    try:
        return read(text)
    except ValueError as failure:
        raise errors.ComponentError(
            f"the environment variable {variable} cannot be used: {failure}"
        ) from failure


def _with(config: Any, found: Mapping[str, Any]) -> Any:
    own = {field: value for field, value in found.items() if "." not in field}
    tls = {field[4:]: value for field, value in found.items() if field.startswith("tls.")}
    try:
        if tls:
            own["tls"] = dataclasses.replace(config.tls, **tls)
        return dataclasses.replace(config, **own)
    except ValueError as failure:
        raise errors.ComponentError(
            f"the {PREFIX}* environment variables and the config do not fit: {failure}"
        ) from failure
