"""How each kind of value is read: strictly, so that a slip is an error and not a guess.

A hook takes what `tree.plain` gives, so it may be handed an expansion: an option that is a
string takes its text, every other option the value that YAML reads in it.
"""

from __future__ import annotations

import enum
import math
import typing
from collections.abc import Callable
from typing import Any

from otel_oom.config import problems, tree, types, units

Hook = Callable[[Any, Any], Any]


class Invalid(ValueError):
    """A value does not fit its option; `word` may be a misspelling of one of `known`."""

    def __init__(self, message: str, *, word: str = "", known: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.word = word
        self.known = known


def string(value: Any, _: Any) -> str:
    """A string, or the text of any expansion."""
    if isinstance(value, tree.Expanded | tree.ExpandedMapping | tree.ExpandedSequence):
        original = getattr(value, "original", None)
        return str(value) if original is None else original
    if isinstance(value, str):
        return value
    raise wrong_type(value, "a string", "; quote it" if _is_scalar(value) else "")


def secret(value: Any, _: Any) -> types.Secret:
    """A string whose text is in no message."""
    try:
        return types.Secret(string(value, str))
    except Invalid:
        raise Invalid(f"must be a string, not {problems.kind(value)}; quote it") from None


def boolean(value: Any, _: Any) -> bool:
    """`true` or `false`."""
    value = tree.typed(value)
    if isinstance(value, bool):
        return value
    words = {"yes": "true", "on": "true", "no": "false", "off": "false"}
    word = words.get(value.lower(), value) if isinstance(value, str) else ""
    raise wrong_type(value, "true or false", word=word, known=("true", "false"))


def integer(value: Any, _: Any) -> int:
    """A whole number; neither a boolean nor a number in quotes is one."""
    value = tree.typed(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    unquoted = isinstance(value, str) and value.isdecimal()
    raise wrong_type(value, "an integer", "; take the quotes off" if unquoted else "")


def number(value: Any, _: Any) -> float:
    """A finite number; an integer is one."""
    value = tree.typed(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if math.isfinite(value):
            return float(value)
        raise Invalid("must be a finite number")
    raise wrong_type(value, "a number")


def duration(value: Any, _: Any) -> types.Duration:
    """A text such as `250ms`, or 0."""
    value = tree.typed(value)
    if type(value) in {int, float}:
        value = "0" if value == 0 else str(value)
    if not isinstance(value, str):
        raise wrong_type(value, "a duration such as `250ms`")
    return types.Duration(_converted(units.seconds, value))


def byte_size(value: Any, _: Any) -> types.ByteSize:
    """An integer of bytes, or a text such as `512KiB`."""
    value = tree.typed(value)
    if type(value) is int:
        value = f"{value}B"
    if not isinstance(value, str):
        raise wrong_type(value, "a size such as `512KiB`")
    return types.ByteSize(_converted(units.size_bytes, value))


def component_id(value: Any, _: Any) -> types.ComponentId:
    """`type[/name]`."""
    try:
        return types.ComponentId.parse(string(value, str))
    except Invalid:
        raise
    except ValueError as error:
        raise Invalid(f"is no component id: {error}") from error


def enumeration(value: Any, cls: type[enum.Enum]) -> Any:
    """One of an enum's values, in any case: the collector's examples write `INFO` and `info`."""
    return _choice(value, {str(member.value): member for member in cls})


def literal(value: Any, cls: Any) -> Any:
    """One of the values of a `Literal`."""
    return _choice(value, {str(word): word for word in typing.get_args(cls)})


def _choice(value: Any, by_word: dict[str, Any]) -> Any:
    value = tree.typed(value)
    for word, choice in by_word.items():
        if not isinstance(value, dict | list) and str(value).lower() == word.lower():
            return choice
    known = tuple(by_word)
    raise wrong_type(value, f"one of {', '.join(known)}", word=str(value), known=known)


def anything(value: Any, _: Any) -> Any:
    """Whatever YAML reads."""
    return tree.typed(value)


def wrong_type(
    value: Any, wanted: str, remedy: str = "", *, word: str = "", known: tuple[str, ...] = ()
) -> Invalid:
    """`must be an integer, not the string `x``."""
    found = problems.kind(value)
    if _is_scalar(value):
        found = f"the {found.split()[-1]} {problems.quoted(str(value))}"
    return Invalid(f"must be {wanted}, not {found}{remedy}", word=word, known=known)


def _is_scalar(value: Any) -> bool:
    return value is not None and not isinstance(value, dict | list)


def _converted(convert: Callable[[str], Any], text: str) -> Any:
    try:
        return convert(text)
    except ValueError as error:
        raise Invalid(f"{problems.quoted(text)} {error}") from None
