"""Writes Python's view of each probe's header from the BTF of the built objects.

One module an object, beside otel_oom/bpf/events.py. With `--check`, as `make lint` runs it, it
only compares.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from otel_oom.bpf import btf, libbpf  # noqa: E402 - the checkout's own, whatever is installed

PACKAGE = ROOT / "otel_oom" / "bpf"


@dataclasses.dataclass(frozen=True)
class View:
    """One module: `stem` of header and object, what of their types is in it."""

    module: str
    stem: str
    structs: tuple[str, ...]
    enums: dict[str, tuple[str, str]]
    """Name to the prefix of its values, and the class that it becomes."""


VIEWS = (
    View(
        "events.py",
        "oom",
        (
            "oom_header",
            "oom_process",
            "oom_memcg",
            "oom_mark",
            "oom_delivered",
            "oom_exited",
            "oom_counters",
        ),
        {
            "oom_kind": ("OOM_KIND_", "IntEnum"),
            "oom_mark_flag": ("OOM_MARK_", "IntFlag"),
            "oom_memcg_flag": ("OOM_MEMCG_", "IntFlag"),
            "oom_delivered_flag": ("OOM_DELIVERED_", "IntFlag"),
        },
    ),
    View(
        "storage_events.py",
        "storage",
        (
            "storage_key",
            "storage_series",
            "storage_cached",
            "storage_error_key",
            "storage_request",
            "storage_counters",
            "storage_cpu",
            "storage_settings",
        ),
        {
            "storage_operation": ("STORAGE_OPERATION_", "IntEnum"),
            "storage_request_flag": ("STORAGE_REQUEST_", "IntFlag"),
        },
    ),
    View(
        "storage_operations_events.py",
        "storage_operations",
        (
            "storage_request",
            "storage_wait",
            "storage_file",
            "storage_operation",
            "storage_report",
            "storage_bits",
            "storage_settings",
            "storage_call_key",
            "storage_call_histogram",
            "storage_call_error_key",
            "storage_operation_counters",
        ),
        {
            "storage_call": ("STORAGE_CALL_", "IntEnum"),
            "storage_event": ("STORAGE_EVENT_", "IntEnum"),
            "storage_cause": ("STORAGE_CAUSE_", "IntEnum"),
            "storage_wait_flag": ("STORAGE_WAIT_", "IntFlag"),
            "storage_operation_flag": ("STORAGE_OPERATION_", "IntFlag"),
            "storage_request_flag": ("STORAGE_REQUEST_", "IntFlag"),
        },
    ),
)
INTEGERS = {(1, False): "B", (2, False): "H", (4, False): "I", (8, False): "Q"}

HEAD = '''"""Python's view of bpf/{stem}.h, made by tools/make_events.py from BTF: do not edit.

A struct at the start of another is flattened into it. Arrays and other nested structs stay
bytes, for the reader to unpack when it needs them.
"""

from __future__ import annotations

import enum
import struct
from typing import ClassVar, NamedTuple
'''


def main() -> int:
    """Write the modules, or tell which are not what would be written."""
    texts = {PACKAGE / view.module: render(view) for view in VIEWS}
    if "--check" not in sys.argv:
        for path, text in texts.items():
            path.write_text(text)
        return 0
    stale = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} is not what its header says: run tools/make_events.py")
    return 1 if stale else 0


def object_btf(path: pathlib.Path) -> bytes:
    """The BTF of an object file; needs no rights, because nothing is loaded."""
    data = path.read_bytes()
    opened = libbpf.library().bpf_object__open_mem(data, len(data), None)
    if not opened:
        raise SystemExit(f"{path}: {libbpf.error_text()}")
    raw = libbpf.raw_btf(libbpf.library().bpf_object__btf(opened))
    libbpf.library().bpf_object__close(opened)
    return raw


def render(view: View) -> str:
    """The module's text."""
    types = btf.Btf(object_btf(PACKAGE / "objects" / f"{view.stem}.bpf.o"))
    parts = [HEAD.format(stem=view.stem)]
    parts += [enum_class(types, name, *how) for name, how in view.enums.items()]
    parts += [struct_class(types, types.struct(name)) for name in view.structs]
    return "\n\n\n".join(part.rstrip() for part in parts) + "\n"


def camel(name: str) -> str:
    """`oom_mark` to `OomMark`."""
    return "".join(word.capitalize() for word in name.split("_"))


def enum_class(types: btf.Btf, name: str, prefix: str, base: str) -> str:
    """An enum, its values without the common prefix."""
    lines = [f"class {camel(name)}(enum.{base}):", f'    """enum {name}."""', ""]
    lines += [
        f"    {key.removeprefix(prefix)} = {value}" for key, value in types.enum(name).items()
    ]
    return "\n".join(lines)


def flatten(types: btf.Btf, found: btf.Struct) -> list[btf.Member]:
    """The members, with a leading struct's own members in its place."""
    first, *rest = found.members
    if first.struct and not first.count:
        return [*types.struct(first.struct).members, *rest]
    return [first, *rest]


def code(member: btf.Member) -> tuple[str, str]:
    """Format code and Python type of a member."""
    if member.struct or member.count or member.is_char:
        return f"{member.size_bytes * (member.count or 1)}s", "bytes"
    letter = INTEGERS[member.size_bytes, False]
    return (letter.lower() if member.is_signed else letter), "int"


def struct_class(types: btf.Btf, found: btf.Struct) -> str:
    """A NamedTuple with its compiled format and the offsets that the loader compares."""
    members = flatten(types, found)
    end = 0
    for member in members:
        if member.offset_bytes != end:
            raise SystemExit(f"struct {found.name} has a hole before {member.name}")
        end += member.size_bytes * (member.count or 1)
    if end != found.size_bytes:
        raise SystemExit(f"struct {found.name} has a hole at its end")
    form = "<" + "".join(code(member)[0] for member in members)
    offsets = {m.name: (m.offset_bytes, m.size_bytes * (m.count or 1)) for m in found.members}
    lines = [f"class {camel(found.name)}(NamedTuple):", f'    """struct {found.name}."""', ""]
    lines += [f"    {member.name}: {code(member)[1]}" for member in members]
    lines += ["", ""]
    name = camel(found.name)
    lines += [
        f"class {name}Layout:",
        f'    """Where struct {found.name} has its fields, in bytes: (offset, size)."""',
        "",
        f'    STRUCT: ClassVar[str] = "{found.name}"',
        f"    SIZE_BYTES: ClassVar[int] = {found.size_bytes}",
        f'    FORMAT: ClassVar[struct.Struct] = struct.Struct("{form}")',
        "    OFFSETS: ClassVar[dict[str, tuple[int, int]]] = {",
        *(f'        "{key}": {value},' for key, value in offsets.items()),
        "    }",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
