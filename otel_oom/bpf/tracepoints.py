"""Which tracepoints this kernel has, and how many arguments they take, by its BTF.

BTF has `typedef void (*btf_trace_NAME)(void *__data, ...)` for each tracepoint: a typedef of a
pointer to a function prototype, whose first parameter is not the tracepoint's. Those of a
module that is loaded are in the module's own BTF (/sys/kernel/btf, v5.11).
"""

from __future__ import annotations

import ctypes
import pathlib

from otel_oom.bpf import btf, libbpf

_MODULES = pathlib.Path("/sys/kernel/btf")
ABSENT = -1


class Tracepoints:
    """Looks tracepoints up; `close` lets go of the types."""

    def __init__(self, modules: tuple[str, ...] = ()) -> None:
        """`modules`: where to look beside the kernel itself; a name that is not loaded is none."""
        self._library = libbpf.library()
        self._kernel = self._library.btf__load_vmlinux_btf()
        self._types = [self._kernel] if self._kernel else []
        for module in modules:
            self._add_module(module)

    def arguments(self, name: str) -> int:
        """How many the tracepoint takes, or `ABSENT`."""
        for types in self._types:
            found = self._arguments(types, f"btf_trace_{name}".encode())
            if found != ABSENT:
                return found
        return ABSENT

    def close(self) -> None:
        """Free the types; modules' first, for they stand on the kernel's."""
        while self._types:
            self._library.btf__free(self._types.pop())

    def _add_module(self, module: str) -> None:
        if not self._kernel or not (_MODULES / module).exists():
            return
        types = self._library.btf__load_module_btf(module.encode(), self._kernel)
        if types:
            self._types.append(types)

    def _arguments(self, types: int, name: bytes) -> int:
        typedef = self._library.btf__find_by_name_kind(types, name, btf.KIND_TYPEDEF)
        if typedef <= 0:
            return ABSENT
        pointer = self._type_of(types, typedef)
        function = self._library.btf__type_by_id(types, self._type_of(types, pointer))
        _, info, _ = _words(function)
        return (info & 0xFFFF) - 1

    def _type_of(self, types: int, number: int) -> int:
        return _words(self._library.btf__type_by_id(types, number))[2]


def _words(at: int) -> tuple[int, int, int]:
    """The three words of a `struct btf_type`: name, info, size or type."""
    words = ctypes.cast(at, ctypes.POINTER(ctypes.c_uint32))
    return words[0], words[1], words[2]
