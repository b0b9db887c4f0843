"""A configuration as it was written: values that know where they stand.

Loading, merging and expanding work on nodes; `plain` turns the result into dictionaries, lists
and scalars for structuring. Nodes are never changed once made, because aliases share them.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Self

Path = tuple[str | int, ...]
"""Where a value is in the configuration: keys and list indexes from the top."""

Scalar = str | int | float | bool | None


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a source; line and column count from 1, and 0 where the source has no lines."""

    source: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands.

    `keys` holds the position of each key of a mapping. `original` is the text that an expansion
    gave before YAML typed it. `size` counts the node and all below it, aliases written out.
    """

    value: Scalar | dict[str, Node] | list[Node]
    position: Position
    keys: dict[str, Position] = dataclasses.field(default_factory=dict)
    original: str | None = None
    size: int = 1


class Expanded(str):
    """The text of an expansion that YAML reads as another scalar: `value`, e.g. `5` as 5."""

    __slots__ = ("value",)

    value: Scalar

    def __new__(cls, original: str, value: Scalar) -> Self:
        """`original` is what a string option gets, `value` what every other option gets."""
        self = super().__new__(cls, original)
        self.value = value
        return self


class ExpandedMapping(dict[str, Any]):
    """A mapping that came from an expansion, with its text for an option that is a string."""

    original: str = ""


class ExpandedSequence(list[Any]):
    """A list that came from an expansion, with its text for an option that is a string."""

    original: str = ""


def plain(node: Node) -> Any:
    """The value without positions; what was expanded keeps its text beside it."""
    value = node.value
    if isinstance(value, dict):
        mapping = ExpandedMapping if node.original is not None else dict
        return _mark(mapping((key, plain(child)) for key, child in value.items()), node.original)
    if isinstance(value, list):
        sequence = ExpandedSequence if node.original is not None else list
        return _mark(sequence(plain(child) for child in value), node.original)
    return value if node.original is None else Expanded(node.original, value)


def typed(value: Any) -> Any:
    """The value as YAML types it, without the texts that `plain` kept."""
    if isinstance(value, Expanded):
        return value.value
    if isinstance(value, dict):
        return {key: typed(child) for key, child in value.items()}
    return [typed(child) for child in value] if isinstance(value, list) else value


def locate(root: Node, path: Path, *, key: bool = False) -> Position:
    """Where a path stands, or the nearest place above it that the configuration has.

    A scalar or a list stands at its value; a mapping, a null, or anything asked for with `key`
    at its key.
    """
    node, at_key = root, root.position
    for step in path:
        child = _child(node, step)
        if child is None:
            return node.keys.get(str(step), at_key)
        at_key = node.keys.get(str(step), child.position)
        node = child
    at_value = node.value is not None and not isinstance(node.value, dict)
    return node.position if at_value and not key else at_key


def _child(node: Node, step: str | int) -> Node | None:
    if isinstance(node.value, dict):
        return node.value.get(str(step))
    if isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
        return node.value[step]
    return None


def _mark(value: Any, original: str | None) -> Any:
    if original is not None:
        value.original = original
    return value
