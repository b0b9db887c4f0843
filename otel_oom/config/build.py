"""YAML events to nodes.

Nodes are made straight from libyaml's events rather than from `yaml.compose`, so that the
bounds on depth and size apply before the memory is spent: composing 1 MiB of open brackets
takes minutes, refusing them takes a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml

from otel_oom.config import limits, problems, scalars, tree

Place = Callable[[int, int], tree.Position]
"""The position of a line and a column, both counted from 1."""


class Builder:
    """Turns the events of one text into nodes, noting what may be told together."""

    def __init__(self, text: str, place: Place, budget: limits.Budget) -> None:
        self._events = yaml.CSafeLoader(text)
        self._place = place
        self._budget = budget
        self._anchors: dict[str, tree.Node] = {}
        self._problems: list[problems.Problem] = []

    def document(self) -> tree.Node:
        """The single document; an empty stream is a null."""
        self._next()
        if isinstance(self._peek(), yaml.StreamEndEvent):
            return tree.Node(None, self._place(1, 1))
        self._next()
        node = self._node((), 0)
        self._next()
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            self._note((), "a second document begins; put it in a file of its own", event)
        if self._problems:
            shown = self._problems[: problems.MAX_PROBLEMS]
            raise problems.InvalidConfig(shown, more=len(self._problems) - len(shown))
        return node

    def _node(self, path: tree.Path, depth: int) -> tree.Node:
        event = self._next()
        position = self._position(event)
        limits.check_depth(depth, position)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, position)
        self._budget.spend_nodes(1, position)
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(path, event, position)
        else:
            self._check_collection_tag(path, event)
            mapping = isinstance(event, yaml.MappingStartEvent)
            build = self._mapping if mapping else self._sequence
            node = build(path, depth, position)
        if event.anchor:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any, position: tree.Position) -> tree.Node:
        node = self._anchors.get(event.anchor)
        if node is None:
            raise problems.fail(
                f"the alias `*{event.anchor}` has no anchor `&{event.anchor}` that ends above it; "
                "quote the value if it is a text",
                position,
            )
        self._budget.spend_nodes(node.size, position)
        return node

    def _scalar(self, path: tree.Path, event: Any, position: tree.Position) -> tree.Node:
        plain, quoted = event.implicit
        try:
            if plain:
                return tree.Node(scalars.resolve(event.value), position)
            tagged = event.tag is not None and not quoted
            value = scalars.resolve_tagged(event.tag, event.value) if tagged else event.value
            return tree.Node(value, position)
        except ValueError as error:
            self._note(path, str(error), event)
            return tree.Node(None, position)

    def _sequence(self, path: tree.Path, depth: int, position: tree.Position) -> tree.Node:
        items: list[tree.Node] = []
        while not isinstance(self._peek(), yaml.SequenceEndEvent):
            items.append(self._node((*path, len(items)), depth + 1))
        self._next()
        return tree.Node(items, position, size=1 + sum(item.size for item in items))

    def _mapping(self, path: tree.Path, depth: int, position: tree.Position) -> tree.Node:
        values: dict[str, tree.Node] = {}
        keys: dict[str, tree.Position] = {}
        merged: list[tree.Node] = []
        while not isinstance(event := self._peek(), yaml.MappingEndEvent):
            if isinstance(event, yaml.ScalarEvent) and event.value == "<<" and event.implicit[0]:
                merged += self._merge_value(path, depth)
                continue
            key = self._key(path, depth, event)
            value = self._node((*path, key), depth + 1)
            if key in keys:
                self._note_duplicate((*path, key), keys[key], event)
            values[key], keys[key] = value, self._position(event)
        self._next()
        for node in merged:
            _fill(values, keys, node)
        size = 1 + sum(1 + node.size for node in values.values())
        return tree.Node(values, position, keys, size=size)

    def _key(self, path: tree.Path, depth: int, event: Any) -> str:
        node = self._node(path, depth + 1)
        if isinstance(node.value, str):
            return node.value
        self._note(path, f"a key is {problems.kind(node.value)}; keys are strings: quote it", event)
        return str(getattr(event, "value", ""))

    def _merge_value(self, path: tree.Path, depth: int) -> list[tree.Node]:
        """The mappings behind `<<` (yaml.org/type/merge.html), the first of which wins."""
        event = self._next()
        node = self._node((*path, "<<"), depth + 1)
        nodes = node.value if isinstance(node.value, list) else [node]
        if all(isinstance(each.value, dict) for each in nodes):
            self._budget.spend_nodes(node.size, node.position)
            return nodes
        self._note((*path, "<<"), "merges mappings only, such as `<<: *base`", event)
        return []

    def _check_collection_tag(self, path: tree.Path, event: Any) -> None:
        if event.tag not in {None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}:
            self._note(path, "tags are not supported; delete the tag", event)

    def _note_duplicate(self, path: tree.Path, first: tree.Position, event: Any) -> None:
        self._note(path, f"duplicate key, first written at {first}; delete one of them", event)

    def _note(self, path: tree.Path, message: str, event: Any) -> None:
        self._problems.append(problems.Problem(path, message, self._position(event)))

    def _next(self) -> Any:
        return self._events.get_event()

    def _peek(self) -> Any:
        return self._events.peek_event()

    def _position(self, event: Any) -> tree.Position:
        return self._place(event.start_mark.line + 1, event.start_mark.column + 1)


def _fill(values: dict[str, tree.Node], keys: dict[str, tree.Position], base: tree.Node) -> None:
    """Take over from a merged mapping what is not there yet."""
    if isinstance(base.value, dict):
        for key, value in base.value.items():
            if key not in values:
                values[key], keys[key] = value, base.keys[key]
