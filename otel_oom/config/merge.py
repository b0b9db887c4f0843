"""Several sources to one, as the collector's confmap merges them.

Mappings merge key by key; everything else, lists included, is replaced by the later source.
A null replaces too: `processors:` erases the processors of the earlier sources. Whatever a
later source replaces has that source's position; a mapping that several share has the first's.
"""

from __future__ import annotations

from otel_oom.config import limits, load, problems, tree


def merge(base: tree.Node, over: tree.Node) -> tree.Node:
    """The two as one, where `over` wins."""
    if not isinstance(base.value, dict) or not isinstance(over.value, dict):
        return over
    values, keys = dict(base.value), dict(base.keys)
    for key, node in over.value.items():
        both = isinstance(node.value, dict) and key in values
        values[key] = merge(values[key], node) if both else node
        if values[key] is node:
            keys[key] = over.keys[key]
    return tree.Node(values, base.position, keys)


def assignment(text: str, budget: limits.Budget) -> tree.Node:
    """A `--set a.b=c` as a source of its own; the value is read as YAML, or else as a string.

    Dots part the keys, so a key that has a dot in it cannot be set in this way.
    The position shows the key only: the value may be a secret.
    """
    path, equals, value = text.partition("=")
    keys = path.split(".")
    position = tree.Position(f"--set {problems.quoted(path, bare=True)}=…")
    if not equals or not all(keys):
        raise problems.fail("write it as `--set key.key=value`", position)
    limits.check_depth(len(keys), position)
    node = _value(value, position, budget)
    for key in reversed(keys):
        node = tree.Node({key: node}, position, {key: position})
    return node


def _value(text: str, position: tree.Position, budget: limits.Budget) -> tree.Node:
    raw = text.encode("utf-8", "surrogateescape")
    try:
        return load.parse(raw, lambda _line, _column: position, budget)
    except problems.InvalidConfig:
        limits.check_text(raw, position)
        budget.check(position)
        if any("\udc80" <= character <= "\udcff" for character in text):
            raise
        return tree.Node(text, position)
