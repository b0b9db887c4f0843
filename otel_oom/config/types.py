"""The kinds of value that a config can hold beside YAML's own.

Each is a plain Python value at run time; the name only tells the loader how to read it, and
the generated docs what to call it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from typing import NewType

Duration = NewType("Duration", float)
"""Seconds, written as Go writes durations: `250ms`, `1m30s`, `0`."""

ByteSize = NewType("ByteSize", int)
"""Bytes, written as an integer or with a unit: `512KiB`, `1MiB`, `10MB`."""

Violations = Iterator[tuple[tuple[str | int, ...], str]]
"""What the `validate` of an options' dataclass yields: the path of the key that cannot be as it is
(empty for the dataclass itself), and a message that quotes it."""


class Secret(str):
    """A string that never shows itself: `repr`, logs and `print-config` say `[REDACTED]`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'[REDACTED]'"


_TYPE = re.compile(r"[a-zA-Z][0-9a-zA-Z_]{0,62}")
_NAME = re.compile(r"[^\s\x00-\x1f\x7f]{1,1024}")


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class ComponentId:
    """`type[/name]`, as the collector writes ids (collector component/identifiable.go)."""

    type: str
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> ComponentId:
        """Read an id; `ValueError` says what is wrong with it."""
        head, slash, name = text.partition("/")
        if not _TYPE.fullmatch(head):
            raise ValueError(
                f"the type {head!r} must be a letter followed by at most 62 letters, "
                "digits or underscores"
            )
        if slash and not _NAME.fullmatch(name):
            raise ValueError(
                f"the name {name!r} after the slash must be 1 to 1024 characters "
                "without white space"
            )
        return cls(head, name)

    def __str__(self) -> str:
        return f"{self.type}/{self.name}" if self.name else self.type


def key_of(field: str) -> str:
    """The YAML key of a dataclass's field: `from` of `from_`, which Python keeps for itself."""
    return field.removesuffix("_")
