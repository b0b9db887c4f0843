"""What a victim's environment says of its service: two variables, and nothing else of it.

The environment may hold secrets, so all but an allow-list is dropped as soon as it is read.
"""

from __future__ import annotations

import os
from typing import NamedTuple

ALLOWED = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")

_MOST_BYTES = 1 << 20
_PIECE_BYTES = 1 << 16
_PREFIXES = tuple((name, f"{name}=".encode()) for name in ALLOWED)


class Variables(NamedTuple):
    """Those of the allow-list that are set; `reason` says why they could not be read."""

    found: tuple[tuple[str, str], ...] = ()
    reason: str = ""


NONE = Variables()
"""Not read."""


def read(proc: str, pid: int) -> Variables:
    """From /proc/PID/environ (proc(5)), which is empty once its memory is let go of."""
    try:
        raw = _read(f"{proc}/{pid}/environ")
    except PermissionError:
        return Variables(reason="may not be read without CAP_SYS_PTRACE")
    except OSError:
        raw = b""
    if not raw:
        return Variables(reason="the victim was gone before it could be read, or has none")
    return Variables(_allowed(raw))


def _allowed(raw: bytes) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for line in raw.split(b"\0"):
        for name, prefix in _PREFIXES:
            if line.startswith(prefix):  # of two of one name the first counts, as for getenv(3)
                text = line[len(prefix) :].decode("utf-8", "backslashreplace")
                found.setdefault(name, text)
    return tuple(sorted(found.items()))


def _read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces, size = [], 0
        while size < _MOST_BYTES and (piece := os.read(fd, _PIECE_BYTES)):
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)
