"""What `otel-oom top` shows of storage. Sums are kept only while somebody looks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from otel_oom.pipeline.views import View
from otel_oom.receivers.storage import histogram, tiers
from otel_oom.receivers.storage.slowest import KEPT_S, Seen, Slowest
from otel_oom.receivers.storage.streams import Streams
from otel_oom.receivers.storage.totals import Totals

KIND = "storage"
_PATIENCE_S = 60.0
"""After the last look, before the sums are given up."""

_LEAST_NS = 200_000_000
"""Between two readings: who asks more often is told the same again."""

_NS_PER_S = 10**9


class Viewer:
    """Makes the view."""

    def __init__(
        self,
        sources: Sequence[tiers.Tier],
        streams: Streams,
        slowest: Slowest,
        cgroup_path: Callable[[int], str | None],
        sampled: Mapping[str, int],
    ) -> None:
        """`sampled`: of how many calls of each operation one is followed, and so counted."""
        self._tiers = sources
        self._streams = streams
        self._slowest = slowest
        self._cgroup_path = cgroup_path
        self._sampled = dict(sampled)
        self._totals: Totals | None = None
        self._timer: asyncio.TimerHandle | None = None

    def make(self) -> View:
        """The sums since the first look, and the slowest operations of the last minute."""
        self._wait()
        totals, now_s = self._look(), time.monotonic()
        return {
            "view": KIND,
            "since_ns": totals.since_ns,
            "now_ns": totals.now_ns,
            "scale": histogram.SCALE,
            "zero_threshold_s": histogram.ZERO_THRESHOLD_S,
            "tiers": {tier.name: tier.describe() for tier in self._tiers},
            "lost": sum(tier.lost() for tier in self._tiers),
            "sampled": self._sampled,
            "rows": list(totals.rows()),
            "slowest_of_s": KEPT_S,
            "slowest": [self._told(seen, now_s) for seen in self._slowest.last_minute(now_s)],
        }

    def forget(self) -> None:
        """Give up the sums; the next look begins anew."""
        self._totals = None
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _wait(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_PATIENCE_S, self.forget)

    def _look(self) -> Totals:
        totals = self._totals
        if totals is None or totals.is_full:
            totals = self._totals = Totals(self._tiers, self._streams)
        elif time.monotonic_ns() - totals.now_ns >= _LEAST_NS:
            totals.look(self._tiers)
        return totals

    def _told(self, seen: Seen, now_s: float) -> dict[str, Any]:
        slow, subject, verdict = seen.slow, seen.slow.subject, seen.slow.verdict
        return {
            "age_s": now_s - seen.seen_s,
            "duration_s": seen.duration_ns / _NS_PER_S,
            "operation": subject.operation,
            "process": subject.executable,
            "pid": slow.pid,
            "cgroup": self._cgroup_path(slow.cgroup_id) or "",
            "device": subject.device,
            "path": subject.path,
            "inode": slow.inode,
            "error": subject.error,
            "layer": verdict.layer,
            "share": verdict.share,
            "start": verdict.start,
            "end": verdict.end,
        }
