"""Values of the kernel's enumerators, by name, where the enum itself has none.

CO-RE relocates enumerators by the name of their enum, and libbpf finds types by name; what is in
an anonymous enum, as the block layer's RQF_* were from v6.11 on for a while, only the raw BTF
tells. It is searched, not parsed: a parse of all types would take a second.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from otel_oom import errors
from otel_oom.bpf import libbpf

_HEADER = struct.Struct("<HBBIIIII")
_WORD = struct.Struct("<I")
_PAIR = struct.Struct("<II")  # struct btf_enum: name, value


def kernel_values(prefix: str, names: tuple[str, ...]) -> dict[str, int]:
    """The values of enumerators `prefix` + name; a name that the kernel lacks is left out."""
    library = libbpf.library()
    types = library.btf__load_vmlinux_btf()
    if not types:
        raise errors.ProbeUnsupported(f"the kernel's BTF cannot be read: {libbpf.error_text()}")
    try:
        return values(libbpf.raw_btf(types), prefix, names)
    finally:
        library.btf__free(types)


def values(raw: bytes, prefix: str, names: tuple[str, ...]) -> dict[str, int]:
    """As `kernel_values`, of BTF bytes; all enumerators of `prefix` are taken to be of one enum."""
    *_, header_bytes, types_at, types_bytes, strings_at, strings_bytes = _HEADER.unpack_from(raw)
    types = raw[header_bytes + types_at :][:types_bytes]
    strings = raw[header_bytes + strings_at :][:strings_bytes]
    found = {}
    for name in names:
        at = strings.find(f"\0{prefix}{name}\0".encode()) + 1
        for value in _candidates(types, strings, at, prefix.encode()) if at else ():
            found[name] = value
    return found


def _candidates(types: bytes, strings: bytes, name_at: int, prefix: bytes) -> Iterator[int]:
    """Values behind each mention of the name, if a neighbour is of the same enum."""
    word = _WORD.pack(name_at)
    at = types.find(word)
    while at >= 0:
        if at % 4 == 0 and any(
            strings.startswith(prefix, _PAIR.unpack_from(types, neighbour)[0])
            for neighbour in (at - _PAIR.size, at + _PAIR.size)
            if 0 <= neighbour <= len(types) - _PAIR.size
        ):
            yield _PAIR.unpack_from(types, at)[1]
        at = types.find(word, at + 1)
