"""Which capture mode is in use: the best that works, and what comes next when it fails.

Each mode begins where the books of the one before it ended, so that what was killed in between is
in its counters, and told. A better mode is tried again from time to time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from otel_oom import errors
from otel_oom.pipeline.data import Batch
from otel_oom.receivers.oom import capture, cgroups, counter_capture, log_capture, state
from otel_oom.receivers.oom.run import Base, Run

CORE, KMSG, COUNTER = capture.MODE, log_capture.MODE, counter_capture.MODE

_FIRST_RETRY_S, _LAST_RETRY_S = 1.0, 60.0
_STABLE_S = 60.0
"""A mode that has worked so long has not just come and gone."""


class Capture(Protocol):
    """One way of seeing kills, from its start to its end."""

    mode: str

    @property
    def fd(self) -> int | None:
        """Readable when there is something to drain; None if there never is."""

    @property
    def has_backlog(self) -> bool:
        """Whether `drain` left something that will not make `fd` readable."""

    def describe(self) -> str:
        """What it rests on, on one line."""

    def failure(self) -> str:
        """Why it sees nothing any more; empty as long as it works."""

    def drain(self, now_s: float) -> int:
        """Take what is there, but not for long; how much it was."""

    def ready(self, now_s: float, *, flush: bool = False) -> list[Batch]:
        """What can be sent."""

    def next_s(self) -> float | None:
        """When `ready` will have something by itself."""

    def check(self) -> tuple[Batch | None, bool]:
        """Missed kills, and whether to look again soon."""

    def books(self) -> state.Saved:
        """Up to where the kernel's counters are told."""

    def finish(self) -> list[Batch]:
        """Stop seeing; the last records, and what the counters tell beyond them."""

    def leave(self) -> list[Batch]:
        """Stop seeing, for another mode; the last records."""

    def summary(self) -> str:
        """How the books stand, on one line."""

    def lost(self) -> float:
        """What was lost on its way from the kernel."""

    def difference(self) -> float:
        """Kills that the books cannot explain."""

    def close(self) -> None:
        """Let go of everything that is its own."""


_MAKERS: dict[str, Callable[[Run, Base], Capture]] = {
    CORE: capture.Capture,
    KMSG: log_capture.LogCapture,
    COUNTER: counter_capture.CounterCapture,
}

_TRIALS: dict[str, Callable[[Run], object]] = {
    CORE: lambda run: capture.try_out(run.root, run.config.ring_size),
    KMSG: lambda run: run.open_log(),
    COUNTER: lambda run: run.vmstat.kills(),
}
"""To see that a mode works before another that does is left."""

MODES = tuple(_MAKERS)
"""All of them, best first."""


class Modes:
    """Makes captures of the modes that are wanted, best first; `refused` says why not of others."""

    def __init__(self, run: Run, wanted: tuple[str, ...]) -> None:
        self.refused: dict[str, str] = {}
        self._run = run
        self._wanted = wanted
        self._retry_s = _FIRST_RETRY_S
        self._retry_at_s = 0.0
        self._since_s = time.monotonic()

    def first(self, base: Base) -> Capture:
        """The best that works; `ProbeUnsupported` tells of each why none does."""
        found = self._best(self._wanted, base)
        if found is None:
            reasons = list(self.refused.values())
            raise errors.ProbeUnsupported(reasons[0] if len(reasons) == 1 else self.why())
        return found

    def after(self, failed: Capture, why: str) -> Capture:
        """What follows a mode that has failed and was left.

        If no mode that is wanted works, it is the counters, which every mode needs.
        """
        self.refused[failed.mode] = why
        self._put_off()
        base = _base(failed.books())
        rest = [mode for mode in self._wanted if MODES.index(mode) > MODES.index(failed.mode)]
        return self._best(rest, base) or counter_capture.CounterCapture(self._run, base)

    def has_better(self, present: Capture) -> bool:
        """Whether it was time to try the modes before this one, and one of them works."""
        before = self._before(present)
        if not before or time.monotonic() < self._retry_at_s:
            return False
        self._put_off()
        return any(self._works(mode) for mode in before)

    def instead(self, left: Capture) -> Capture:
        """The best that works, in place of one that was left for it."""
        base = _base(left.books())
        found = self._best([*self._before(left), left.mode], base)
        return found or counter_capture.CounterCapture(self._run, base)

    def why(self) -> str:
        """Why the modes before this one are not in use."""
        return "; ".join(f"{mode}: {reason}" for mode, reason in self.refused.items())

    def _before(self, present: Capture) -> list[str]:
        """Modes that are wanted more; whatever is wanted, if this one is not."""
        place = MODES.index(present.mode)
        if present.mode not in self._wanted:
            return list(self._wanted)
        return [mode for mode in self._wanted if MODES.index(mode) < place]

    def _works(self, mode: str) -> bool:
        try:
            _TRIALS[mode](self._run)
        except (errors.BpfError, OSError) as error:
            self.refused[mode] = str(error).splitlines()[0]
            return False
        return True

    def _best(self, modes: Sequence[str], base: Base) -> Capture | None:
        for mode in modes:
            try:
                made = _MAKERS[mode](self._run, base)
            except (errors.BpfError, OSError) as error:
                self.refused[mode] = str(error).splitlines()[0]
                continue
            self._forget_from(mode)
            return made
        return None

    def _forget_from(self, mode: str) -> None:
        """Nobody asks why a mode is not in use that is no better than the one that is."""
        place = MODES.index(mode)
        self.refused = {k: why for k, why in self.refused.items() if MODES.index(k) < place}

    def _put_off(self) -> None:
        """Try again later, and each time later still, unless all went well for long."""
        now_s = time.monotonic()
        if now_s - self._since_s > _STABLE_S + self._retry_s:
            self._retry_s = _FIRST_RETRY_S
        self._retry_at_s, self._since_s = now_s + self._retry_s, now_s
        self._retry_s = min(2 * self._retry_s, _LAST_RETRY_S)


def _base(saved: state.Saved) -> Base:
    """Where the books ended, for the next ones to begin."""
    counts = {inode: cgroups.Count("", kills) for inode, kills in saved.cgroups.items()}
    return Base(saved.kills, counts)
