"""Compares the structs of a loaded object with the ones that Python decodes.

`events.py` is made from the BTF of the built object. An object built from another header
would be decoded into nonsense without a word; this says it before the first record.
"""

from __future__ import annotations

from typing import Any, Protocol

from otel_oom import errors
from otel_oom.bpf import btf


class Event(Protocol):
    """What `events.py` has for each struct."""

    STRUCT: str
    SIZE_BYTES: int
    OFFSETS: dict[str, tuple[int, int]]


def check(types: btf.Btf, events: tuple[type[Any], ...]) -> None:
    """Raise `LayoutMismatch` naming the struct and the field that differ."""
    for event in events:
        try:
            found = types.struct(event.STRUCT)
        except KeyError:
            raise errors.LayoutMismatch(
                f"the object has no struct {event.STRUCT}: it was built from another header; "
                "build it again with `make bpf`"
            ) from None
        _check_struct(event, found)


def _check_struct(event: type[Any], found: btf.Struct) -> None:
    expected = event.OFFSETS
    actual = {m.name: (m.offset_bytes, m.size_bytes * (m.count or 1)) for m in found.members}
    for name in {**expected, **actual}:
        if expected.get(name) != actual.get(name):
            raise errors.LayoutMismatch(
                f"struct {event.STRUCT}, field {name}: (offset, size) in bytes is "
                f"{actual.get(name)} in the object and {expected.get(name)} in Python; "
                "build both from one header with `make bpf`"
            )
    if found.size_bytes != event.SIZE_BYTES:
        raise errors.LayoutMismatch(
            f"struct {event.STRUCT} has {found.size_bytes} bytes in the object and "
            f"{event.SIZE_BYTES} in Python"
        )
