"""Why an operation was slow: its longest gap, and the layer that has it."""

from __future__ import annotations

from typing import NamedTuple

from otel_oom.receivers.storage import timeline
from otel_oom.receivers.storage.timeline import Stage, Timeline

STAGE, TOTAL = "stage", "total"
_ANY = -(2**70)
"""Less than any gap can be, whatever is taken off it."""


class Verdict(NamedTuple):
    """The longest gap: its layer, the stages at its ends, its share of the whole (0 to 1).

    `threshold` is the one that was exceeded: `total`, else `stage`.
    """

    layer: str
    start: str
    end: str
    gap_ns: int
    share: float
    threshold: str


class Judge:
    """Gives the verdicts. `below` counts operations that were not slow after all.

    The kernel side sends an operation with a wait as long as a stage may be. Here the wait is
    split into its stages, each of which may be short enough.
    """

    def __init__(self, *, stage_ns: int, total_ns: int) -> None:
        self._stage_ns = stage_ns
        self._total_ns = total_ns
        self.below = 0

    def judge(self, line: Timeline) -> Verdict | None:
        """The verdict; None, counted as `below`, if neither threshold is reached."""
        stages = line.stages
        total_ns = stages[-1].time_ns - stages[0].time_ns
        gap_ns, before, after = longest(line)
        if total_ns >= self._total_ns:
            threshold = TOTAL
        elif gap_ns >= self._stage_ns:
            threshold = STAGE
        else:
            self.below += 1
            return None
        share = gap_ns / total_ns if total_ns else 1.0
        return Verdict(after.layer, before.name, after.name, gap_ns, share, threshold)


def longest(line: Timeline) -> tuple[int, Stage, Stage]:
    """The longest gap, the first of equals.

    Waits that were not kept lie in gaps on the CPU, nobody knows in which: so such a gap counts
    for what it surely has of its own. None of those waits is longer than one that was kept.
    """
    best, best_ns = (0, line.stages[0], line.stages[0]), _ANY
    for gap in timeline.gaps(line.stages):
        gap_ns, _, after = gap
        surely_ns = gap_ns - line.left_out_ns if after.is_running else gap_ns
        if surely_ns > best_ns:
            best, best_ns = gap, surely_ns
    return best
