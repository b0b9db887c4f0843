"""Which labels and annotations become attributes, and under which names.

Expressions and their references are Go's, because configs are written for the collector: where
Python's `re` would read one differently, it is an error and not a guess.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

_GO_GROUP = re.compile(r"\(\?<(?=[A-Za-z_])")
_ONLY_GO = re.compile(r"\[\[:|\\[pPzCQ]|\(\?[a-z]*U")
_REFERENCE = re.compile(r"\$(?:\$|(?P<bare>\w+)|\{(?P<braced>\w+)\})", re.ASCII)

OTEL_PREFIX = "resource.opentelemetry.io/"


class Field(Protocol):
    """What an option `labels` or `annotations` says."""

    @property
    def tag_name(self) -> str: ...  # noqa: D102  # see `config.Field`
    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def key_regex(self) -> str: ...  # noqa: D102
    @property
    def from_(self) -> str: ...  # noqa: D102


Rule = Callable[[Mapping[str, str]], Iterator[tuple[str, str]]]
"""From labels or annotations to attributes."""


def problem(expression: str) -> str:
    """What keeps an expression from being used; nothing if it can be."""
    if _ONLY_GO.search(expression):
        return f"the expression `{expression}` uses a class that only Go knows; spell it out"
    try:
        compiled(expression)
    except re.error as error:
        return f"`{expression}` is no regular expression: {error}"
    return ""


def compiled(expression: str) -> re.Pattern[str]:
    """The expression; Go writes a named group also without the `P`."""
    return re.compile(_GO_GROUP.sub("(?P<", expression))


def rule(field: Field, what: str) -> Rule:
    """The rule of an option; `what` is `label` or `annotation`."""
    if not field.key_regex:
        name = field.tag_name or default_name(field.from_, what, field.key)
        return lambda found: iter([(name, found[field.key])] if field.key in found else [])
    expression = compiled(field.key_regex)
    named = field.tag_name if expression.groups else ""

    def by_expression(found: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        for key, value in found.items():
            match = expression.fullmatch(key)
            if match and value:
                name = expand(named, match) if named else default_name(field.from_, what, key)
                yield name, value

    return by_expression


def otel_annotations(found: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """`resource.opentelemetry.io/NAME` as `NAME`."""
    for key, value in found.items():
        name = key.removeprefix(OTEL_PREFIX)
        if name and name != key and value:
            yield name, value


def default_name(kind: str, what: str, key: str) -> str:
    """`k8s.pod.label.KEY`: the semantic conventions' name, as collectors give it since v0.161."""
    return f"k8s.{kind}.{what}.{key}"


def expand(template: str, match: re.Match[str]) -> str:
    """References as Go's `Regexp.Expand` reads them: the longest name, and nothing for no group."""

    def group(reference: re.Match[str]) -> str:
        name = reference["bare"] or reference["braced"]
        if name is None:
            return "$"
        try:
            return match[int(name) if name.isdigit() else name] or ""
        except IndexError:
            return ""

    return _REFERENCE.sub(group, template)
