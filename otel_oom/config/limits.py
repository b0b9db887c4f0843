"""Bounds that make a hostile or mistaken configuration fail fast instead of filling memory."""

from __future__ import annotations

import dataclasses

from otel_oom.config import problems, tree

MAX_TEXT_BYTES = 1 << 20
"""Bytes of one source, and of everything that `${…}` brings in."""

MAX_NODES = 50_000
"""Keys and values of a configuration, with aliases and references written out."""

MAX_DEPTH = 64
"""Levels of nesting."""

MAX_REFERENCES = 100
"""`${…}` followed on behalf of one value, as the collector's confmap does."""


@dataclasses.dataclass(slots=True)
class Budget:
    """What one configuration may still use, shared by all its sources."""

    nodes: int = MAX_NODES
    expanded_bytes: int = MAX_TEXT_BYTES

    def spend_nodes(self, count: int, position: tree.Position) -> None:
        """Count values; `InvalidConfig` at `position` when there are too many."""
        self.nodes -= count
        self.check(position)

    def check(self, position: tree.Position) -> None:
        """`InvalidConfig` at `position` when there were too many values before."""
        if self.nodes < 0:
            raise problems.fail(
                f"more than {MAX_NODES} values once aliases and references are written out; "
                "is this the right file, or does an alias multiply itself?",
                position,
            )

    def spend_expanded(self, text: str, position: tree.Position) -> None:
        """Count text that a reference brings in; `InvalidConfig` when it is too much."""
        self.expanded_bytes -= len(text)
        if self.expanded_bytes < 0:
            raise problems.fail(
                f"references bring in more than {MAX_TEXT_BYTES >> 20} MiB of text", position
            )


def check_depth(depth: int, position: tree.Position) -> None:
    """`InvalidConfig` when values are nested too deep to be meant."""
    if depth > MAX_DEPTH:
        raise problems.fail(
            f"nested deeper than {MAX_DEPTH} levels; is a bracket left open?", position
        )


def check_text(text: bytes, position: tree.Position) -> None:
    """`InvalidConfig` when a source is too large to be a configuration."""
    if len(text) > MAX_TEXT_BYTES:
        raise problems.fail(
            f"larger than {MAX_TEXT_BYTES >> 20} MiB, which no configuration is; "
            "is this the right file?",
            position,
        )
