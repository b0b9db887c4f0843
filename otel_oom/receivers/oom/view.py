"""What `otel-oom top` shows of kills: how many in the last hour, and the last of them."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from otel_oom.pipeline.views import View
from otel_oom.receivers.oom import records
from otel_oom.receivers.oom.kills import Kill

KIND = "oom"
_SPAN_S = 3600
_MOST_KEPT = 1024
_NS_PER_S = 10**9


class _Seen(NamedTuple):
    boot_ns: int
    comm: bytes
    path: tuple[str, ...]


class Recent:
    """The last kills, up to a fixed number."""

    def __init__(self) -> None:
        self._seen: collections.deque[_Seen] = collections.deque(maxlen=_MOST_KEPT)

    def note(self, kills: Iterable[Kill]) -> None:
        """Keep what was reported; a process that was dying anyway was not killed."""
        for kill in kills:
            if kill.is_killed:
                self.note_one(kill.mark.raw.boot_ns, kill.mark.victim.comm, kill.mark.victim_path)

    def note_one(self, boot_ns: int, comm: bytes, path: tuple[str, ...]) -> None:
        """Keep one, by the kernel's clock, its victim's name and cgroup."""
        self._seen.append(_Seen(boot_ns, comm, path))

    def make(self, lost: Callable[[], float]) -> View:
        """Make the view. If more were killed than are kept, `is_at_least` says so."""
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        recent = [seen for seen in self._seen if now_ns - seen.boot_ns <= _SPAN_S * _NS_PER_S]
        last = max(recent, default=None)
        return {
            "view": KIND,
            "of_s": _SPAN_S,
            "lost": lost(),
            "kills": len(recent),
            "is_at_least": len(recent) == _MOST_KEPT,
            "last": last
            and {
                "age_s": (now_ns - last.boot_ns) / _NS_PER_S,
                "process": records.text(last.comm),
                "cgroup": records.path_text(last.path),
            },
        }
