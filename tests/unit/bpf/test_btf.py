"""Types of the built object, and bytes that are none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_oom import errors
from otel_oom.bpf import btf, events, loader

NAMES = ("oom_mark", "oom_process", "oom_counters")
HEADER = struct.Struct("<HBBIIIII")


@pytest.fixture(scope="module")
def raw() -> bytes:
    """The `.BTF` of the built object."""
    try:
        opened = loader.Object("oom")
    except errors.ProbeUnsupported as error:
        pytest.skip(f"needs the built object and libbpf: {error}")
    try:
        library = opened._library
        return loader.libbpf.raw_btf(library.bpf_object__btf(opened._object))
    finally:
        opened.close()


def made(types: bytes, strings: bytes = b"\0") -> bytes:
    """BTF with this content."""
    return HEADER.pack(0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings)) + types + strings


def kind(number: int, vlen: int = 0, name: int = 0, size_or_type: int = 0) -> bytes:
    return struct.pack("<III", name, number << 24 | vlen, size_or_type)


def test_the_built_objects_structs_are_those_that_python_decodes(raw: bytes) -> None:
    types = btf.Btf(raw)
    for layout in (events.OomMarkLayout, events.OomMemcgLayout, events.OomCountersLayout):
        found = types.struct(layout.STRUCT)
        offsets = {m.name: (m.offset_bytes, m.size_bytes * (m.count or 1)) for m in found.members}
        assert (found.size_bytes, offsets) == (layout.SIZE_BYTES, layout.OFFSETS)


def test_the_built_objects_members_are_told_by_kind(raw: bytes) -> None:
    members = {m.name: m for m in btf.Btf(raw).struct("oom_mark").members}
    assert members["header"].struct == "oom_header"
    assert (members["victim"].struct, members["victim"].size_bytes) == ("oom_process", 40)
    assert members["score_adj"].is_signed
    assert not members["uid"].is_signed
    comm = btf.Btf(raw).struct("oom_process").members[-1]
    assert (comm.name, comm.is_char, comm.count, comm.size_bytes) == ("comm", True, 16, 1)


def test_the_built_objects_enums(raw: bytes) -> None:
    found = btf.Btf(raw).enum("oom_kind")
    assert found == {f"OOM_KIND_{kind.name}": kind.value for kind in events.OomKind}


def test_what_is_not_there_is_a_key_error(raw: bytes) -> None:
    with pytest.raises(KeyError):
        btf.Btf(raw).struct("task_struct_of_mars")
    with pytest.raises(KeyError):
        btf.Btf(raw).enum("oom_mark")


def use(content: bytes) -> None:
    """Everything that is ever asked of BTF; only `BadRecord` may come of it."""
    try:
        types = btf.Btf(content)
    except errors.BadRecord:
        return
    for name in (*NAMES, "", "a"):
        for ask in (types.struct, types.enum):
            try:
                ask(name)
            except (KeyError, errors.BadRecord):
                continue


def test_every_truncation_is_refused_or_lacks_what_was_cut(raw: bytes) -> None:
    types_end = 24 + HEADER.unpack_from(raw)[5]
    for size in [*range(64), *range(64, types_end, 41), *range(types_end, len(raw), 211)]:
        use(raw[:size])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_btf_are_refused(content: bytes) -> None:
    use(content)
    if content[:2] != b"\x9f\xeb":
        with pytest.raises(errors.BadRecord):
            btf.Btf(content)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=160), st.binary(max_size=20))
def test_garbage_behind_a_good_header_is_refused_or_harmless(types: bytes, strings: bytes) -> None:
    use(made(types, strings))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_the_built_object_with_some_bytes_changed(raw: bytes, data: st.DataObject) -> None:
    changed = bytearray(raw)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    use(bytes(changed))


def test_types_that_lead_in_a_circle_are_refused() -> None:
    """A typedef of itself, and two of each other, as a struct's member."""
    member = struct.pack("<III", 1, 2, 0)
    circle = kind(btf.KIND_STRUCT, 1, 1, 4) + member + kind(btf.KIND_TYPEDEF, size_or_type=2)
    with pytest.raises(errors.BadRecord, match="leads nowhere"):
        btf.Btf(made(circle, b"\0a\0")).struct("a")
    two = kind(btf.KIND_TYPEDEF, size_or_type=3) + kind(btf.KIND_CONST, size_or_type=2)
    with pytest.raises(errors.BadRecord, match="leads nowhere"):
        btf.Btf(made(kind(btf.KIND_STRUCT, 1, 1, 4) + member + two, b"\0a\0")).struct("a")


def test_a_type_that_is_not_there_is_refused() -> None:
    one = kind(btf.KIND_STRUCT, 1, 1, 4) + struct.pack("<III", 1, 99, 0)
    with pytest.raises(errors.BadRecord, match="type 99 leads nowhere"):
        btf.Btf(made(one, b"\0a\0")).struct("a")


def test_a_kind_of_the_future_is_refused_by_its_number() -> None:
    """Its length is not known, so what follows it cannot be read."""
    with pytest.raises(errors.BadRecord, match="type 1 is of unknown kind 31"):
        btf.Btf(made(kind(31)))
