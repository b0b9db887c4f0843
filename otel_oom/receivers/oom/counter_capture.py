"""The mode `counter`: the kernel's counters alone, for where even its log may not be read.

A record tells how many were killed and, where a cgroup's own counter moved, in which; not who.
"""

from __future__ import annotations

import time

from otel_oom.bpf.events import OomCounters
from otel_oom.pipeline.data import Batch
from otel_oom.receivers.oom import reconcile, state
from otel_oom.receivers.oom.judge import Judge
from otel_oom.receivers.oom.kills import Tally
from otel_oom.receivers.oom.run import Base, Run

MODE = "counter"

_ZERO = OomCounters(*[0] * len(OomCounters._fields))


class CounterCapture:
    """What the counters say from a moment on; see `modes.Capture`."""

    mode = MODE
    fd = None
    has_backlog = False
    tally = Tally()

    def __init__(self, run: Run, base: Base) -> None:
        """The counters are open already: every mode needs them."""
        self._run = run
        self._judge = Judge(run, base, run.encoder(MODE), self, time.time_ns())
        self._judge.books.why_not_seen = reconcile.COUNTER_MODE

    def counters(self) -> OomCounters:
        """Nothing is marked here."""
        return _ZERO

    def describe(self) -> str:
        """What the mode rests on."""
        return "mode counter, by the kernel's counters alone"

    def failure(self) -> str:
        """Nothing can fail that the receiver could do without."""
        return ""

    def drain(self, now_s: float) -> int:  # noqa: ARG002 - as the other modes have it
        """There is nothing to read between the checks."""
        return 0

    def ready(self, now_s: float, *, flush: bool = False) -> list[Batch]:  # noqa: ARG002
        """No record waits."""
        return []

    def next_s(self) -> float | None:
        """Never."""
        return None

    def check(self) -> tuple[Batch | None, bool]:
        """Kills since the last check as records, and whether to look again soon."""
        missed, verdict = self._judge.check(self._run.vmstat.kills(), lambda: True)
        return missed, verdict.is_pending

    def books(self) -> state.Saved:
        """What is reported so far, for whoever comes next."""
        return self._judge.saved()

    def finish(self) -> list[Batch]:
        """Tell what the counters say at the end."""
        kills = self._run.vmstat.kills()
        missed = self._judge.close((kills, kills))
        return [] if missed is None else [missed]

    def leave(self) -> list[Batch]:
        """Tell what the counters say until another mode takes over."""
        return self.finish()

    def summary(self) -> str:
        """How many kills there were, and how many were told."""
        kills, told = self._judge.sums().kernel_kills, self._judge.books.told_from_counters
        return f"counter: kernel's kills {kills} = told {told} + not yet told {kills - told}"

    def lost(self) -> float:
        """Nothing can be lost on its way: there is none."""
        return 0.0

    def difference(self) -> float:
        """Every kill is told from the counters; that is no difference here."""
        return 0.0

    def close(self) -> None:
        """The counters stay open for the run."""
