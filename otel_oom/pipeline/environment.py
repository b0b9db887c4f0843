"""What the environment of a process says of its resource, by the standard's variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote

_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def resource(env: Mapping[str, str], warn: Callable[[str], object]) -> dict[str, str]:
    """Read `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`, of which the latter wins.

    OpenTelemetry specification, resource/sdk.md and configuration/sdk-environment-variables.md.
    A malformed pair is left out, and `warn` is called with a text that names it.
    """
    found = {}
    for text in filter(str.strip, env.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")):
        try:
            key, value = _pair(text)
        except ValueError as error:
            warn(f"OTEL_RESOURCE_ATTRIBUTES: left out {text.strip()!r}: {error}")
        else:
            found[key] = value
    if name := env.get("OTEL_SERVICE_NAME"):
        found["service.name"] = name
    return found


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise ValueError("it is not `key=value`")
    if _BROKEN_ESCAPE.search(text):
        raise ValueError("a `%` is not followed by two hexadecimal digits")
    try:
        return unquote(key, errors="strict"), unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("its percent-encoded bytes are not UTF-8") from None
