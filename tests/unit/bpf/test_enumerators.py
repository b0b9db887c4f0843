"""Enumerators found by name in BTF, whether their enum has a name or not."""

from __future__ import annotations

import struct

from otel_oom.bpf import enumerators

HEADER = struct.Struct("<HBBIIIII")
ENUM, INT = 6, 1


def made(*types: bytes, strings: bytes) -> bytes:
    """BTF with these types."""
    body = b"".join(types)
    return HEADER.pack(0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


def enum(pairs: dict[int, int]) -> bytes:
    """An enum without a name: name offsets to values."""
    head = struct.pack("<III", 0, ENUM << 24 | len(pairs), 4)
    return head + b"".join(struct.pack("<II", *pair) for pair in pairs.items())


STRINGS = b"\0__RQF_STARTED\0__RQF_FLUSH_SEQ\0__RQF_IO_STAT\0QUEUE_FLAG_STATS\0int\0"
STARTED, FLUSH, IO_STAT = (STRINGS.index(name) for name in (b"__RQF_S", b"__RQF_F", b"__RQF_I"))
RAW = made(enum({STARTED: 0, FLUSH: 1, IO_STAT: 8}), strings=STRINGS)


def test_values_of_an_enum_without_a_name() -> None:
    found = enumerators.values(RAW, "__RQF_", ("FLUSH_SEQ", "IO_STAT"))
    assert found == {"FLUSH_SEQ": 1, "IO_STAT": 8}


def test_what_the_kernel_lacks_is_left_out() -> None:
    assert enumerators.values(RAW, "__RQF_", ("IO_STAT", "OF_MARS")) == {"IO_STAT": 8}
    assert enumerators.values(made(strings=b"\0"), "__RQF_", ("IO_STAT",)) == {}


def test_part_of_a_name_is_not_the_name() -> None:
    assert enumerators.values(RAW, "__RQF_", ("FLUSH",)) == {}
    assert enumerators.values(RAW, "RQF_", ("IO_STAT",)) == {}


def test_a_number_that_happens_to_be_the_names_offset_is_not_it() -> None:
    """A type of as many bytes: no neighbour of it is of the enum."""
    bystander = struct.pack("<IIII", STRINGS.index(b"int"), INT << 24, IO_STAT, IO_STAT)
    raw = made(bystander, enum({FLUSH: 4, IO_STAT: 13}), bystander, strings=STRINGS)
    assert enumerators.values(raw, "__RQF_", ("IO_STAT",)) == {"IO_STAT": 13}
