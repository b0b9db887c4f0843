"""Holds what one capture mode told against the kernel's counters, and says what is wrong."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from otel_oom.bpf.events import OomCounters
from otel_oom.pipeline.data import Batch
from otel_oom.receivers.oom import encode, reconcile, state
from otel_oom.receivers.oom.kills import Tally
from otel_oom.receivers.oom.run import Base, Run

logger = logging.getLogger(__name__)

_SILENT_KILLS = 3
"""So many kills in a row that a mode did not see, and nothing that it saw: it is blind."""


class Evidence(Protocol):
    """What a mode has seen."""

    def counters(self) -> OomCounters:
        """Marks, or what is like them: counted where they come from."""

    @property
    def tally(self) -> Tally:
        """What was made of them."""


class Judge:
    """The books of one capture, from its `base` on."""

    def __init__(
        self, run: Run, base: Base, encoder: encode.Encoder, seen: Evidence, start_ns: int
    ) -> None:
        self.books = reconcile.Reconciler(run.hierarchy, *base, start_ns)
        self.difference = 0
        self._run = run
        self._encoder = encoder
        self._seen = seen
        self._alarm = ""
        self._final: reconcile.Sums | None = None
        self._silent = 0
        self._heard: tuple[int, int] | None = None

    @property
    def is_blind(self) -> bool:
        """Whether the kernel kills and the mode sees nothing."""
        return self._silent >= _SILENT_KILLS

    def check(
        self, kernel_kills: int, is_quiet: Callable[[], bool]
    ) -> tuple[Batch | None, reconcile.Verdict]:
        """Missed kills as records.

        `kernel_kills` was read before anything of the mode's own, and whether no record is on its
        way is asked after all of that: a kill in between is then in neither, or on its way.
        """
        now_ns = time.time_ns()
        counters = self._seen.counters()
        verdict = self.books.check(
            counters, self._seen.tally, kernel_kills, now_ns, is_quiet=is_quiet()
        )
        self._listen(kernel_kills, counters.marks)
        return self._missed(verdict, now_ns), verdict

    def close(self, kernel_kills: tuple[int, int]) -> Batch | None:
        """The last look, after detaching; the counts are from before it and from after it."""
        now_ns = time.time_ns()
        verdict = self.books.close(self._seen.counters(), self._seen.tally, kernel_kills, now_ns)
        self._final = verdict.sums
        return self._missed(verdict, now_ns)

    def leave(self) -> None:
        """The last look of a mode that another follows: what it did not see is the other's."""
        self._final = self.sums()

    def saved(self) -> state.Saved:
        """What is reported so far, for whoever comes next."""
        return self.books.saved(self._run.boot_id, time.time_ns())

    def sums(self) -> reconcile.Sums:
        """The identities now, or as they were at the end."""
        return self._final or self.books.sums(
            self._seen.counters(), self._seen.tally, self._run.vmstat.kills()
        )

    def summary(self) -> str:
        """The identities on one line."""
        return self.sums().line() + self.told_text()

    def told_text(self) -> str:
        """How many kills have no record of their own, to be added to the line."""
        told = self.books.told_from_counters
        return f"; {told} kills told from the counters" if told else ""

    def _listen(self, kernel_kills: int, marks: int) -> None:
        """How far the kernel's counter has moved since the mode last saw anything."""
        kills_before, marks_before = self._heard or (kernel_kills, marks)
        self._heard = kernel_kills, marks
        self._silent = 0 if marks != marks_before else self._silent + kernel_kills - kills_before

    def _missed(self, verdict: reconcile.Verdict, now_ns: int) -> Batch | None:
        """The missed kills of a verdict as records; its alarms are shouted."""
        self._tell(verdict)
        for each in verdict.missed:
            self._run.kills["unknown"] += each.count
        return self._encoder.missed(verdict.missed, now_ns) if verdict.missed else None

    def _tell(self, verdict: reconcile.Verdict) -> None:
        """Shout once about each new kind of difference."""
        self.difference = sum(each.count for each in verdict.missed) - verdict.surplus
        alarm = ""
        if verdict.surplus:
            alarm = f"{verdict.surplus} kills reported that the kernel did not count"
        if verdict.own_difference:
            alarm = f"{verdict.own_difference} more victims reported than marked"
        if alarm and alarm != self._alarm:
            logger.error("accounting bug: %s; %s", alarm, verdict.sums.line())
        self._alarm = alarm
