"""Each way in which a struct can differ is named with the struct and the field."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest

from otel_oom import errors
from otel_oom.bpf import btf, layout


class Event:
    """What events.py would have for the struct."""

    STRUCT: ClassVar[str] = "event"
    SIZE_BYTES: ClassVar[int] = 24
    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {"a": (0, 8), "b": (8, 4), "name": (12, 12)}


def member(name: str, offset: int, size: int, count: int = 0) -> btf.Member:
    return btf.Member(name, offset, size, count, "", is_signed=False, is_char=False)


SAME = btf.Struct("event", 24, (member("a", 0, 8), member("b", 8, 4), member("name", 12, 1, 12)))


class Types:
    """The types of an object that has one struct."""

    def __init__(self, found: btf.Struct) -> None:
        self._found = found

    def struct(self, name: str) -> btf.Struct:
        if name != self._found.name:
            raise KeyError(name)
        return self._found


def check(found: btf.Struct) -> None:
    layout.check(Types(found), (Event,))  # type: ignore[arg-type]


def test_the_same_layout_passes() -> None:
    check(SAME)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "other"}, "the object has no struct event"),
        (
            {"members": (member("a", 4, 8), *SAME.members[1:])},
            r"struct event, field a: .*\(4, 8\) in the object and \(0, 8\) in Python",
        ),
        (
            {"members": (SAME.members[0], member("b", 8, 8), SAME.members[2])},
            r"struct event, field b: .*\(8, 8\) in the object and \(8, 4\) in Python",
        ),
        (
            {"members": (*SAME.members[:2], member("name", 12, 1, 16))},
            r"struct event, field name: .*\(12, 16\) in the object and \(12, 12\) in Python",
        ),
        (
            {"members": SAME.members[:2]},
            r"struct event, field name: .*None in the object and \(12, 12\) in Python",
        ),
        (
            {"members": (*SAME.members, member("new", 24, 8))},
            r"struct event, field new: .*\(24, 8\) in the object and None in Python",
        ),
        ({"size_bytes": 32}, "struct event has 32 bytes in the object and 24 in Python"),
    ],
)
def test_a_difference_names_struct_and_field(change: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.LayoutMismatch, match=says):
        check(dataclasses.replace(SAME, **change))


def test_the_first_field_that_differs_is_named() -> None:
    """In the order of the struct: all that follow a field that grew differ as well."""
    moved = tuple(dataclasses.replace(m, offset_bytes=m.offset_bytes + 8) for m in SAME.members)
    with pytest.raises(errors.LayoutMismatch, match="field a:"):
        check(dataclasses.replace(SAME, members=moved, size_bytes=32))
