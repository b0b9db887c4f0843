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
from otel_oom.pipeline.clock import Clock
from otel_oom.pipeline.data import Batch
from otel_oom.pipeline.incidents import Incidents
from otel_oom.receivers.oom import (
    attributes,
    backlog,
    cgroups,
    context,
    encode,
    incident,
    kills,
    limit,
    process_tree,
    reconcile,
    records,
    state,
)
from otel_oom.receivers.oom.config import Config

logger = logging.getLogger(__name__)

Ready = tuple[list[kills.Kill], list[kills.Kill]]
"""Kills to report, and kills whose span ends."""

_TURN_RECORDS = 256
"""Records that are understood at most before the loop has its turn."""

_SLICE_RECORDS = 16
"""... and before the ring is emptied again: some five kills."""

_EVENTS = (
    events.OomMarkLayout,
    events.OomDeliveredLayout,
    events.OomProcessLayout,
    events.OomMemcgLayout,
    events.OomExitedLayout,
    events.OomCountersLayout,
)


class Capture:
    """The attached probes and the books of one run, from start to shutdown."""

    def __init__(
        self, root: pathlib.Path, config: Config, version: str, incidents: Incidents
    ) -> None:
        self._config = config
        self._incidents = incidents
        self._hierarchy = cgroups.find(root)
        self._vmstat = reconcile.Vmstat(root)
        self._start_ns = time.time_ns()
        self._clock = Clock()
        self._boot_to_unix_ns = self._clock.to_unix_ns()
        self._boot_id = (root / "proc/sys/kernel/random/boot_id").read_text().strip()
        self._base = self._vmstat.kills(), self._hierarchy.counts()
        self._store = state.Store(pathlib.Path(config.state_directory))
        self._probe = self._attach(root)
        self.ring = ring.open_ring(self._probe.object.map_fd("oom_events"), config.ring_size)
        self._counters = self._probe.object.map_pages("oom_counters")
        self._books = reconcile.Reconciler(self._hierarchy, *self._base, self._start_ns)
        self._encoder = encode.Encoder(
            boot_id=self._boot_id,
            version=version,
            mode="core",
            command_args=config.command_args,
            service_variables=config.service_variables,
        )
        self._reader = context.Reader(root, self._hierarchy, config.siblings)
        self._nodes = limit.memory_nodes(root)
        self._assembler = kills.Assembler(
            self._examine,
            settle_s=config.settle,
            settle_exit_s=config.settle_exit,
            note=self._note,
        )
        self._kills = collections.Counter({"memcg": 0, "none": 0})
        self._backlog = backlog.Backlog()
        self._alarm = ""
        self._difference = 0
        self._final: events.OomCounters | None = None
        self._sums: reconcile.Sums | None = None

    def _attach(self, root: pathlib.Path) -> probe.Probe:
        attached = probe.attach(probe.kernel(root), self._config.ring_size)
        try:
            layout.check(attached.object.types(), _EVENTS)
            for inode, count in self._base[1].items():
                attached.object.update(
                    "memcg_kills", inode.to_bytes(8, "little"), count.kills.to_bytes(8, "little")
                )
        except errors.BpfError:
            attached.object.close()
            raise
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
            self.save(self.books())
            return None
        missed = reconcile.since_last_run(saved, *self._base)
        return self._encoder.missed(missed, time.time_ns())

    @property
    def has_backlog(self) -> bool:
        """Whether `drain` left records that it had taken from the ring."""
        return bool(self._backlog)

    def drain(self, now_s: float) -> int:
        """Empty the ring, and understand up to a fixed number of records; returns how many."""
        taken, self._boot_to_unix_ns = 0, self._clock.to_unix_ns()
        while taken < _TURN_RECORDS:
            batch = self._backlog.take(self.ring, _SLICE_RECORDS)
            if not batch:
                break
            for raw in batch:
                self._take(raw, now_s)
            taken += len(batch)
        return taken

    def _take(self, raw: bytes, now_s: float) -> None:
        try:
            self._assembler.take(records.decode(raw), now_s)
        except errors.BadRecord as bad:
            self._assembler.tally.bad_marks += _may_be_mark(raw)
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
        return self._encoder.logs(reports, self._clock.to_unix_ns(), time.time_ns())

    def spans(self, ended: Sequence[kills.Kill]) -> Batch:
        """The spans of kills."""
        return self._encoder.spans(ended, self._clock.to_unix_ns())

    def metric(self) -> Batch:
        """The metric `oom.kills`."""
        return self._encoder.kills_metric(self._kills, self._start_ns, time.time_ns())

    def check(self) -> tuple[Batch | None, bool]:
        """Hold the books against the kernel: missed kills, and whether to look again soon."""
        now_ns = time.time_ns()
        kernel_kills = self._vmstat.kills()  # before our own counters: see `reconcile`
        counters = self._read_counters()
        is_quiet = self._is_quiet()
        verdict = self._books.check(
            counters, self._assembler.tally, kernel_kills, now_ns, is_quiet=is_quiet
        )
        return self._missed(verdict, now_ns), verdict.is_pending

    def _is_quiet(self) -> bool:
        """Whether no record is on its way."""
        is_drained = not self._backlog and self.ring.is_empty()
        return is_drained and self._assembler.next_s() is None

    def books(self) -> state.Saved:
        """What is reported so far, for the next start."""
        return self._books.saved(self._boot_id, time.time_ns())

    def save(self, saved: state.Saved) -> None:
        """Keep books on disk; to be done once their records have left the agent."""
        self._store.save(saved)

    def finish(self) -> tuple[Ready, Batch | None]:
        """Detach, and tell all that is known; kills from here on are the next run's to find."""
        before = self._vmstat.kills()
        self._probe.object.detach()
        kernel_kills = before, self._vmstat.kills()
        while self.drain(0.0):
            pass
        ready = self.ready(0.0, flush=True)
        now_ns = time.time_ns()
        self._final = self._read_counters()
        verdict = self._books.close(self._final, self._assembler.tally, kernel_kills, now_ns)
        self._sums = verdict.sums
        return ready, self._missed(verdict, now_ns)

    def _missed(self, verdict: reconcile.Verdict, now_ns: int) -> Batch | None:
        """The missed kills of a verdict as records; its alarms are shouted."""
        self._tell(verdict)
        return self._encoder.missed(verdict.missed, now_ns) if verdict.missed else None

    def summary(self) -> list[str]:
        """The identities now, or as they were at the stop."""
        sums = self._sums or self._books.sums(
            self._read_counters(), self._assembler.tally, self._vmstat.kills()
        )
        told = self._books.told_from_counters
        return [sums.line() + (f"; {told} kills told from the counters" if told else "")]

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
        init = process_tree.container_init(mark.raw_ancestors)
        read = self._reader.read(path, limit_path, mark.raw.tgid, init.tgid if init else 0)
        return found, read

    def _note(self, kill: kills.Kill) -> None:
        """Let others link to the kill's span while it goes on, not only when it is sent."""
        found = incident.of(
            kill, self._encoder.ids, self._boot_to_unix_ns, self._config.settle_exit
        )
        if found is not None:
            self._incidents.note(found)

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


def _may_be_mark(raw: bytes) -> bool:
    """Whether a record that was not understood can have been a mark, a kill that is lost."""
    header = events.OomHeaderLayout.FORMAT
    if len(raw) < header.size:
        return True
    kind = events.OomHeader._make(header.unpack_from(raw)).kind
    return kind not in (events.OomKind.DELIVERED, events.OomKind.EXITED)
