"""The mode `core`: our programs in the kernel, and what their records tell.

Nothing here sends: the receiver asks for what is ready, as OTLP.
"""

from __future__ import annotations

import logging
import pathlib
import time
from collections.abc import Sequence

from otel_oom import errors
from otel_oom.bpf import events, layout, probe, ring
from otel_oom.pipeline.data import Batch
from otel_oom.receivers.oom import (
    attributes,
    backlog,
    context,
    incident,
    kills,
    limit,
    process_tree,
    records,
    state,
)
from otel_oom.receivers.oom.judge import Judge
from otel_oom.receivers.oom.run import Base, Run

logger = logging.getLogger(__name__)

MODE = "core"

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
    """The attached probes and what they saw, from attaching to detaching; see `modes.Capture`."""

    mode = MODE

    def __init__(self, run: Run, base: Base) -> None:
        """Attach; `errors.BpfError` says why that cannot be."""
        self._run = run
        self._incidents = run.incidents
        self._boot_to_unix_ns = run.clock.to_unix_ns()
        self._probe = self._attach()
        self.ring = ring.open_ring(self._probe.object.map_fd("oom_events"), run.config.ring_size)
        self._map = self._probe.object.map_pages("oom_counters")
        self._encoder = run.encoder(MODE)
        self._assembler = kills.Assembler(
            self._examine,
            settle_s=run.config.settle,
            settle_exit_s=run.config.settle_exit,
            note=self._note,
        )
        self._judge = Judge(run, base, self._encoder, self, time.time_ns())
        self._backlog = backlog.Backlog()
        self._final: events.OomCounters | None = None

    def _attach(self) -> probe.Probe:
        counts = self._run.hierarchy.counts()
        attached = probe.attach(probe.kernel(self._run.root), self._run.config.ring_size)
        try:
            layout.check(attached.object.types(), _EVENTS)
            for inode, count in counts.items():
                attached.object.update(
                    "memcg_kills", inode.to_bytes(8, "little"), count.kills.to_bytes(8, "little")
                )
        except errors.BpfError:
            attached.object.close()
            raise
        return attached

    @property
    def fd(self) -> int:
        """Readable when there are records."""
        return self.ring.fd

    @property
    def tally(self) -> kills.Tally:
        """What was made of the records."""
        return self._assembler.tally

    def describe(self) -> str:
        """What the mode rests on, and what was left out, on one line."""
        left_out = "; ".join(f"without {k}: {v}" for k, v in self._probe.left_out.items())
        return f"mode core, oom_kill_process by {self._probe.decision_hook}" + (
            f" ({left_out})" if left_out else ""
        )

    def failure(self) -> str:
        """Why it sees nothing any more; empty as long as it works."""
        if detached := self._probe.object.lost_links():
            return f"the kernel runs {', '.join(detached)} no more: detached"
        if not self._probe.object.has_map(self.ring.fd):
            return "the ring is closed"
        if self._judge.is_blind:
            return "the kernel kills, and the programs do not see it"
        return ""

    @property
    def has_backlog(self) -> bool:
        """Whether `drain` left records that it had taken from the ring."""
        return bool(self._backlog)

    def drain(self, now_s: float) -> int:
        """Empty the ring, and understand up to a fixed number of records; returns how many."""
        taken, self._boot_to_unix_ns = 0, self._run.clock.to_unix_ns()
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

    def ready(self, now_s: float, *, flush: bool = False) -> list[Batch]:
        """Records of kills and spans that can be sent; what they tell is booked."""
        reports, spans = self._assembler.ready(now_s, flush=flush)
        for kill in reports:
            self._judge.books.add(kill)
            if kill.is_killed:
                self._run.kills[kill.limit.constraint or "unknown"] += 1
        if reports and self._run.standby:
            self._run.standby.note(p for k in reports for p in (k.mark.raw.tgid, k.mark.raw.pid))
        self._run.recent.note(reports)
        return [*self._logs(reports), *self._spans(spans)]

    def next_s(self) -> float | None:
        """When `ready` will have something by itself."""
        return self._assembler.next_s()

    def _logs(self, reports: Sequence[kills.Kill]) -> list[Batch]:
        if not reports:
            return []
        return [self._encoder.logs(reports, self._run.clock.to_unix_ns(), time.time_ns())]

    def _spans(self, ended: Sequence[kills.Kill]) -> list[Batch]:
        return [self._encoder.spans(ended, self._run.clock.to_unix_ns())] if ended else []

    def check(self) -> tuple[Batch | None, bool]:
        """Hold the books against the kernel: missed kills, and whether to look again soon."""
        held = self._run.held_log()
        if held:
            held.begin()
        kernel_kills = self._run.vmstat.kills()  # before our own counters: see `reconcile`
        missed, verdict = self._judge.check(kernel_kills, self._is_quiet)
        if held and self._is_quiet() and (missed or not verdict.is_pending):
            held.confirm()
        return missed, verdict.is_pending

    def _is_quiet(self) -> bool:
        """Whether no record is on its way."""
        is_drained = not self._backlog and self.ring.is_empty()
        return is_drained and self._assembler.next_s() is None

    def books(self) -> state.Saved:
        """What is reported so far, for whoever comes next."""
        return self._judge.saved()

    def finish(self) -> list[Batch]:
        """Detach, and tell all that is known; kills from here on are the next run's to find."""
        before = self._run.vmstat.kills()
        self._probe.object.detach()
        kernel_kills = before, self._run.vmstat.kills()
        ready = self._rest()
        missed = self._judge.close(kernel_kills)
        return ready if missed is None else [*ready, missed]

    def leave(self) -> list[Batch]:
        """Detach for another mode, which finds what this one did not see; tell what is known."""
        self._probe.object.detach()
        ready = self._rest()
        self._judge.leave()
        return ready

    def _rest(self) -> list[Batch]:
        while self.drain(0.0):
            pass
        ready = self.ready(0.0, flush=True)
        self._final = self.counters()
        return ready

    def summary(self) -> str:
        """The identities now, or as they were at the end."""
        return self._judge.summary()

    def lost(self) -> float:
        """Ring records that found no room, and runs of our programs that the kernel skipped."""
        counters = self.counters()
        lost = counters.lost_marks + counters.lost_delivered + counters.lost_exited
        return float(lost + self._probe.object.recursion_misses())

    def difference(self) -> float:
        """Kills that the books cannot explain: positive not seen by us, negative by the kernel."""
        return float(self._judge.difference)

    def close(self) -> None:
        """Let go of everything."""
        self._final = self.counters()
        self.ring.close()
        self._map.close()
        self._probe.object.close()

    def counters(self) -> events.OomCounters:
        """What our programs counted."""
        if self._final is not None:
            return self._final
        return events.OomCounters._make(events.OomCountersLayout.FORMAT.unpack_from(self._map))

    def _examine(self, mark: records.Mark) -> tuple[limit.Limit, context.Context | None]:
        found = limit.find(
            mark, unlimited_pages=attributes.UNLIMITED_PAGES, memory_nodes=self._run.nodes
        )
        if not mark.has(events.OomMarkFlag.HAS_VICTIM):
            return found, None
        level = found.owner.level if found.owner else None
        path = records.path_text(mark.victim_path)
        limit_path = None if level is None else records.path_text(mark.victim_path[:level])
        init = process_tree.container_init(mark.raw_ancestors)
        read = self._run.reader.read(path, limit_path, mark.raw.tgid, init.tgid if init else 0)
        return found, read

    def _note(self, kill: kills.Kill) -> None:
        """Let others link to the kill's span while it goes on, not only when it is sent."""
        found = incident.of(
            kill, self._encoder.ids, self._boot_to_unix_ns, self._run.config.settle_exit
        )
        if found is not None:
            self._incidents.note(found)


def try_out(root: pathlib.Path, ring_bytes: int) -> None:
    """Attach and detach; `errors.BpfError` says why that cannot be."""
    probe.attach(probe.kernel(root), ring_bytes).object.close()


def _may_be_mark(raw: bytes) -> bool:
    """Whether a record that was not understood can have been a mark, a kill that is lost."""
    header = events.OomHeaderLayout.FORMAT
    if len(raw) < header.size:
        return True
    kind = events.OomHeader._make(header.unpack_from(raw)).kind
    return kind not in (events.OomKind.DELIVERED, events.OomKind.EXITED)
