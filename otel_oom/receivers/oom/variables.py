"""What a victim's environment says of its service: two variables, and nothing else of it.

The environment may hold secrets: the kernel side copies out these two alone, while the victim takes
its SIGKILL (bpf/oom.bpf.c).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

from otel_oom.bpf.events import OomDeliveredFlag

ALLOWED = ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")

_MOST_KEPT = 256
_REASONS = (
    (OomDeliveredFlag.VARIABLE_LONG, "one of them is not shorter than 2 KiB"),
    (OomDeliveredFlag.VARIABLES_MORE, "it is not among the first 256 of its environment"),
    (OomDeliveredFlag.VARIABLES_UNREADABLE, "a part of its environment was not in memory"),
)


class Variables(NamedTuple):
    """Those of the allow-list that are set; `reason` says why one may be missing."""

    found: tuple[tuple[str, str], ...] = ()
    reason: str = ""


GONE = Variables(reason="the victim was gone before it could be read")


@functools.lru_cache(_MOST_KEPT)
def read(raw: bytes, flags: int) -> Variables:
    """`NAME=VALUE`, each with its NUL; of two of one name the first counts, as for getenv(3)."""
    found: dict[str, str] = {}
    for name, value in _pairs(raw):
        if name in ALLOWED:
            found.setdefault(name, value)
    reason = "; ".join(text for flag, text in _REASONS if flags & flag)
    is_whole = len(found) == len(ALLOWED)
    return Variables(tuple(sorted(found.items())), "" if is_whole else reason)


def _pairs(raw: bytes) -> Iterator[tuple[str, str]]:
    for each in raw.split(b"\0"):
        name, _, value = each.decode("utf-8", "backslashreplace").partition("=")
        yield name, value
