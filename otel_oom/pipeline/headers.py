"""Headers that a config may add to every request of an exporter."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

HTTP_RESERVED = frozenset(
    {"connection", "content-encoding", "content-length", "content-type", "transfer-encoding"}
)
"""What the HTTP exporter sets itself; another value would break the request."""

GRPC_RESERVED = frozenset({"content-type", "te", "user-agent"})
"""What gRPC sets itself, beside everything that begins with `grpc-`."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_GRPC_NAME = re.compile(r"[0-9a-z_.-]+")
_VALUE = re.compile(r"[\x20-\x7e\t]*")


def check_http(headers: Mapping[str, str]) -> None:
    """Raise `ValueError` for a header that cannot be sent over HTTP (RFC 9110 §5)."""
    _check(headers, _NAME, HTTP_RESERVED)


def check_grpc(headers: Mapping[str, str]) -> None:
    """Raise `ValueError` for a header that cannot be gRPC metadata (its HTTP/2 protocol text)."""
    lowered = {name.lower(): value for name, value in headers.items()}
    _check(lowered, _GRPC_NAME, GRPC_RESERVED | {n for n in lowered if n.startswith("grpc-")})


def _check(headers: Mapping[str, str], names: re.Pattern[str], reserved: Collection[str]) -> None:
    """The value is never in the message: it may be a secret."""
    for name, value in headers.items():
        if not names.fullmatch(name):
            raise ValueError(f"'headers': {name!r} is no name of a header")
        if name.lower() in reserved:
            raise ValueError(f"'headers': {name!r} is set by the exporter; remove it")
        if not _VALUE.fullmatch(value):
            raise ValueError(
                f"'headers': the value of {name!r} must be one line of printable ASCII characters"
            )
