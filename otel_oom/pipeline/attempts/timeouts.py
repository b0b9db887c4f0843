"""How long a try may take: longer for what matters, on a busy host, and after a time-out.

    T = min(most, B * (1 + alpha * (weight - 1) / 9) * I^-beta * gamma^k)

`I` is the idleness of this host (`pipeline/resources/`), `k` the number of time-outs. `B` is what
was configured, or more where answers take more: SRTT + 4 RTTVAR of those that came (RFC 6298).
Never less, because a destination that answers in a millisecond is allowed a pause, too.

Karn's algorithm, both halves: the answer to a second try says nothing of how long the first would
have taken, so only first tries are measured; and until one of those is answered, the next request
begins with the time that the last one was given. Without the second half a destination that always
needs longer than `B` would never be measured, and each request would waste a try.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

_GAIN_MEAN = 1 / 8
_GAIN_DEVIATION = 1 / 4
_DEVIATIONS = 4
_MOST_STEPS = 32
_WEIGHTS = 9
"""Steps between the lowest weight, 1, and the highest, 10."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The formula's numbers. `most_s` equal to `least_s` makes every time-out the same."""

    least_s: float
    """Time for a try of the lowest weight on an idle host, in seconds; never below it."""

    most_s: float
    """The ceiling, in seconds."""

    alpha: float = 1.0
    """How much longer the highest weight may take than the lowest: 1 is twice as long."""

    beta: float = 1.0
    """How much a busy host lengthens it: 1 is in inverse proportion to the idleness."""

    gamma: float = 2.0
    """Growth after a time-out."""


class Limit(NamedTuple):
    """The time that one try is given, and how many time-outs it was widened for."""

    seconds: float
    step: int


class Timeouts:
    """What is known of one destination's answers. `idleness` tells of this host, from 0 to 1."""

    def __init__(self, rule: Rule, idleness: Callable[[], float]) -> None:
        self._rule = rule
        self._idleness = idleness
        self._mean_s: float | None = None
        self._deviation_s = 0.0
        self._step = 0

    def limit(self, weight: int, timeouts: int) -> Limit:
        """The time for the next try of something of this weight that timed out so often."""
        rule = self._rule
        step = min(max(timeouts, self._step), _MOST_STEPS)
        matters = 1 + rule.alpha * (weight - 1) / _WEIGHTS
        wide_s = self._base_s() * matters * self._idleness() ** -rule.beta * rule.gamma**step
        return Limit(min(rule.most_s, wide_s), step)

    def timed_out(self, limit: Limit) -> None:
        """A try was given this time, and had no answer."""
        self._step = max(self._step, limit.step + 1)

    def answered(self, took_s: float) -> None:
        """A first try was answered after so many seconds; on an idle host it would be sooner."""
        self._step = 0
        sample_s = took_s * self._idleness() ** self._rule.beta
        if self._mean_s is None:
            self._mean_s, self._deviation_s = sample_s, sample_s / 2
            return
        away_s = abs(self._mean_s - sample_s)
        self._deviation_s += _GAIN_DEVIATION * (away_s - self._deviation_s)
        self._mean_s += _GAIN_MEAN * (sample_s - self._mean_s)

    def _base_s(self) -> float:
        if self._mean_s is None:
            return self._rule.least_s
        return max(self._rule.least_s, self._mean_s + _DEVIATIONS * self._deviation_s)
