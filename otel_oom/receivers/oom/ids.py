"""Ids of kills, made from the boot id and the kernel's own numbers.

So the same kill has the same ids however often it is sent, and the kills of one episode share a
trace.
"""

from __future__ import annotations

import functools
import hashlib

from otel_oom.receivers.oom import records
from otel_oom.receivers.oom.kills import Kill
from otel_oom.receivers.oom.missed import Missed

TRACE_ID_BYTES, SPAN_ID_BYTES = 16, 8
_UID_BYTES = 16
_MOST_KEPT = 1024


class Ids:
    """Of the kills of one boot. What was made is kept: a log record and a span have the same."""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id
        self._kept = functools.lru_cache(_MOST_KEPT)(self._make)

    def of(self, kill: Kill) -> tuple[bytes, bytes, str]:
        """Trace id of the episode, span id of the kill; the trace id in hexadecimal too."""
        return self._kept(kill.episode.first_boot_ns, kill.mark.identity)

    def logged(self, sequence: int) -> str:
        """An id, in hexadecimal, for what stands in this record of the kernel's log."""
        return _digest(_UID_BYTES, f"{self._boot_id}\0kmsg\0{sequence}").hex()

    def missed(self, missed: Missed, now_ns: int) -> str:
        """An id, in hexadecimal, for the record of kills that have no mark."""
        text = f"{self._boot_id}\0{missed.cgroup or ''}\0{missed.reason}\0{now_ns}"
        return _digest(_UID_BYTES, text).hex()

    def _make(self, first_boot_ns: int, identity: records.Identity) -> tuple[bytes, bytes, str]:
        tgid, start_boot_ns = identity
        trace_id = _digest(TRACE_ID_BYTES, f"{self._boot_id}\0{first_boot_ns}")
        span_id = _digest(SPAN_ID_BYTES, f"{self._boot_id}\0{tgid}\0{start_boot_ns}")
        return trace_id, span_id, trace_id.hex()


def _digest(size: int, text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=size).digest()
