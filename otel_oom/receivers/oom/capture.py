"""The attached probes and the books of one run.

Nothing here sends: the receiver asks for what is ready, as OTLP.
"""

from __future__ import annotations

import collections
import logging
import pathlib
import time
from collections.abc import Sequence

from otel_oom import errors
from otel_oom.bpf import events, layout, probe, ring
from otel_oom.pipeline.data import Batch
from otel_oom.receivers.oom import (
    attributes,
    cgroups,
    context,
    encode,
    kills,
    limit,
    reconcile,
    records,
    state,
)
from otel_oom.receivers.oom.config import Config

logger = logging.getLogger(__name__)

Ready = tuple[list[kills.Kill], list[kills.Kill]]
"""Kills to report, and kills whose span ends."""

_DRAIN_RECORDS = 256
_EVENTS = (
    events.OomProcessLayout,
    events.OomMemcgLayout,
    events.OomExitedLayout,
    events.OomCountersLayout,
)


class Capture:
    """The attached probes and the books of one run, from start to shutdown."""

    def __init__(self, root: pathlib.Path, config: Config, version: str) -> None:
        self._config = config
        self._hierarchy = cgroups.find(root)
        self._vmstat = reconcile.Vmstat(root)
        self._start_ns = time.time_ns()
        self._boot_id = (root / "proc/sys/kernel/random/boot_id").read_text().strip()
        self._base = self._vmstat.kills(), self._hierarchy.counts()
        self._store = state.Store(pathlib.Path(config.state_directory))
        self._probe = self._attach(root)
        self.ring = ring.open_ring(self._probe.object.map_fd("oom_events"), config.ring_size)
        self._counters = self._probe.object.map_pages("oom_counters")
        self._books = reconcile.Reconciler(self._hierarchy, *self._base, self._start_ns)
        self._encoder = encode.Encoder(
            boot_id=self._boot_id, version=version, mode="core", command_args=config.command_args
        )
        self._reader = context.Reader(root, self._hierarchy, config.siblings)
        self._nodes = limit.memory_nodes(root)
        self._assembler = kills.Assembler(
            self._examine, settle_s=config.settle, settle_exit_s=config.settle_exit
        )
        self._kills = collections.Counter({"memcg": 0, "none": 0})
        self._alarm = ""
        self._difference = 0
        self._final: events.OomCounters | None = None

    def _attach(self, root: pathlib.Path) -> probe.Probe:
        attached = probe.attach(probe.kernel(root), self._config.ring_size)
        layout.check(attached.object.types(), _EVENTS)
        for inode, count in self._base[1].items():
            attached.object.update(
                "memcg_kills", inode.to_bytes(8, "little"), count.kills.to_bytes(8, "little")
            )
        return attached

    def describe(self) -> str:
        """The capture mode and what was left out, on one line."""
        left_out = "; ".join(f"without {k}: {v}" for k, v in self._probe.left_out.items())
        return f"mode core, oom_kill_process by {self._probe.decision_hook}" + (
            f" ({left_out})" if left_out else ""
        )

    def missed_while_down(self) -> Batch | None:
        """Kills since the last run of this boot, from the counters."""
        saved = self._store.load(self._boot_id)
        if saved is None:
            return None
        missed = reconcile.since_last_run(saved, *self._base)
        return self._encoder.missed(missed, time.time_ns())

    def drain(self, now_s: float) -> None:
        """Take up to a fixed number of records from the ring."""
        for raw in self.ring.drain(_DRAIN_RECORDS):
            try:
                self._assembler.take(records.decode(raw), now_s)
            except errors.BadRecord as bad:
                self._assembler.tally.bad_marks += 1
                logger.error(  # noqa: TRY400 - the text says it all
                    "a record of the kernel side was not understood: %s", bad
                )

    def ready(self, now_s: float, *, flush: bool = False) -> Ready:
        """Kills to report and to send spans of; the reported ones are booked."""
        reports, spans = self._assembler.ready(now_s, flush=flush)
        for kill in reports:
            self._books.add(kill)
            if kill.is_killed:
                self._kills[kill.limit.constraint or "unknown"] += 1
        return reports, spans

    def next_s(self) -> float | None:
        """When `ready` will have something by itself."""
        return self._assembler.next_s()

    def logs(self, reports: Sequence[kills.Kill]) -> Batch:
        """The records of kills."""
        return self._encoder.logs(reports, boot_to_unix_ns(), time.time_ns())

    def spans(self, ended: Sequence[kills.Kill]) -> Batch:
        """The spans of kills."""
        return self._encoder.spans(ended, boot_to_unix_ns())

    def metric(self) -> Batch:
        """The metric `oom.kills`."""
        return self._encoder.kills_metric(self._kills, self._start_ns, time.time_ns())

    def check(self) -> tuple[Batch | None, bool]:
        """Hold the books against the kernel: missed kills, and whether to look again soon."""
        now_ns = time.time_ns()
        verdict = self._books.check(
            self._read_counters(),
            self._assembler.tally,
            self._vmstat.kills(),
            now_ns,
            is_drained=self.ring.is_empty(),
        )
        self._tell(verdict)
        saved = self._books.saved(self._boot_id, now_ns)
        if saved is not None and not verdict.is_pending:
            self._store.save(saved)
        missed = self._encoder.missed(verdict.missed, now_ns) if verdict.missed else None
        return missed, verdict.is_pending

    def finish(self) -> Ready:
        """Detach, then take the last records; kills from here on are the next run's to find."""
        self.check()
        self._probe.object.detach()
        while batch := self.ring.drain(_DRAIN_RECORDS):
            for raw in batch:
                self._assembler.take(records.decode(raw), 0.0)
        self._books.book_since(self._read_counters())
        ready = self.ready(0.0, flush=True)
        saved = self._books.saved(self._boot_id, time.time_ns())
        if saved is not None:
            self._store.save(saved)
        return ready

    def summary(self) -> list[str]:
        """The identities now."""
        sums = self._books.sums(self._read_counters(), self._assembler.tally, self._vmstat.kills())
        return [sums.line()]

    def kernel_lost(self) -> float:
        """Ring records that found no room, and runs of our programs that the kernel skipped."""
        counters = self._read_counters()
        lost = counters.lost_marks + counters.lost_delivered + counters.lost_exited
        return float(lost + self._probe.object.recursion_misses())

    def difference(self) -> float:
        """Kills that the books cannot explain: positive not seen by us, negative by the kernel."""
        return float(self._difference)

    def close(self) -> None:
        """Let go of everything."""
        self._final = self._read_counters()
        self.ring.close()
        self._counters.close()
        self._probe.object.close()
        self._vmstat.close()

    def _examine(self, mark: records.Mark) -> tuple[limit.Limit, context.Context | None]:
        found = limit.find(
            mark, unlimited_pages=attributes.UNLIMITED_PAGES, memory_nodes=self._nodes
        )
        if not mark.has(events.OomMarkFlag.HAS_VICTIM):
            return found, None
        level = found.owner.level if found.owner else None
        path = records.path_text(mark.victim_path)
        limit_path = None if level is None else records.path_text(mark.victim_path[:level])
        read = self._reader.read(path, limit_path, mark.raw.tgid)
        return found, read

    def _read_counters(self) -> events.OomCounters:
        if self._final is not None:
            return self._final
        return events.OomCounters._make(events.OomCountersLayout.FORMAT.unpack_from(self._counters))

    def _tell(self, verdict: reconcile.Verdict) -> None:
        """Shout once about each new kind of difference."""
        self._difference = sum(each.count for each in verdict.missed) - verdict.surplus
        alarm = ""
        if verdict.surplus:
            alarm = f"{verdict.surplus} kills reported that the kernel did not count"
        if verdict.own_difference:
            alarm = f"{verdict.own_difference} more victims reported than marked"
        if alarm and alarm != self._alarm:
            logger.error("accounting bug: %s; %s", alarm, verdict.sums.line())
        self._alarm = alarm


def boot_to_unix_ns() -> int:
    """What to add to CLOCK_BOOTTIME for Unix time; it moves when the wall clock is set."""
    return time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
