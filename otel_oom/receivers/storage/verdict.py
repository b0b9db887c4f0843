"""Why an operation was slow: its longest gap, and the layer that has it."""

from __future__ import annotations

from typing import NamedTuple

from otel_oom.receivers.storage.timeline import Timeline

STAGE, TOTAL = "stage", "total"


class Verdict(NamedTuple):
    """The longest gap: its layer, the stages at its ends, its share of the whole (0 to 1).

    `threshold` is the one that was exceeded: `total`, else `stage`. Where it is not known in
    which layer the longest gap is, `layer` is empty, and only `threshold` counts.
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
        if line.times_ns[-1] - line.times_ns[0] >= self._total_ns:
            return of(line, TOTAL)
        found = of(line, STAGE)
        if found.gap_ns >= self._stage_ns:
            return found
        self.below += 1
        return None


def of(line: Timeline, threshold: str) -> Verdict:
    """The verdict on an operation that is slow by this threshold."""
    gaps_ns = line.gaps_ns()
    total_ns = line.times_ns[-1] - line.times_ns[0]
    place = longest(line, gaps_ns)
    gap_ns = gaps_ns[place]
    before, after = line.kinds[place : place + 2]
    share = gap_ns / total_ns if total_ns else 1.0
    return Verdict(after.layer, before.name, after.name, gap_ns, share, threshold)


def unknown(threshold: str) -> Verdict:
    """Of an operation of which too little is known for a verdict."""
    return Verdict("", "", "", 0, 0.0, threshold)


def longest(line: Timeline, gaps_ns: list[int]) -> int:
    """Place of the longest gap, the first of equals.

    Waits that were not kept lie in gaps on the CPU, nobody knows in which: so such a gap counts
    for what it surely has of its own. None of those waits is longer than one that was kept.
    """
    if line.left_out_ns:
        gaps_ns = [
            gap_ns - line.left_out_ns if after.is_running else gap_ns
            for gap_ns, after in zip(gaps_ns, line.kinds[1:], strict=True)
        ]
    return gaps_ns.index(max(gaps_ns))
