"""What was asked and what came of it, for the agent's own metrics; nothing names a pod."""

from __future__ import annotations

import collections
import dataclasses


def _counter() -> collections.Counter[tuple[str, str]]:
    return collections.Counter()


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """Since the start; each by the kind of object (`pods`, …) and one more word."""

    requests: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=_counter)
    """By verb: `list` (each page), `watch`, or the kubelet's `get`."""

    changes: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=_counter)
    """By what a watch or a comparison told: `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`."""

    errors: collections.Counter[tuple[str, str]] = dataclasses.field(default_factory=_counter)
    """By reason: `forbidden`, `gone`, `timeout`, …; `undecodable` counts objects left out."""
