"""Loads an eBPF object of ours and attaches its programs, with libbpf.

Which programs to use is the caller's choice (`probe.py` asks the kernel what it has). A
program that is not chosen is not loaded, so what a kernel refuses need not be in the way.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import pathlib
import re
from collections.abc import Collection, Iterator

from otel_oom import errors
from otel_oom.bpf import btf, libbpf

_CAP_SYS_ADMIN = 21
_EVIDENCE_LINES = 12
_MISSES = re.compile(rb"recursion_misses:\s+(\d+)")
_MAP_FILE = "anon_inode:bpf-map"
_INSTRUCTIONS = re.compile(rb"verified_insns:\s+(\d+)")


def may_see_modules() -> bool:
    """Whether types of the kernel's modules can be looked up: the kernel asks CAP_SYS_ADMIN."""
    status = pathlib.Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(effective >> _CAP_SYS_ADMIN & 1)


def _without_modules() -> libbpf.OpenOptions:
    """Types from the kernel itself alone.

    For a type that the kernel has not, libbpf before 1.3 asks for the modules', and gives up if
    it may not; given a file of types, it does not ask.
    """
    size = ctypes.sizeof(libbpf.OpenOptions)
    return libbpf.OpenOptions(sz=size, btf_custom_path=b"/sys/kernel/btf/vmlinux")


class Object:
    """One object: opened, then loaded, then attached. `close` undoes all of it."""

    def __init__(self, name: str) -> None:
        """`name`: stem of the object in the package, e.g. `oom`."""
        self.name = name
        self._image = _image(name)
        self._links: dict[str, int] = {}
        self._files: dict[str, str] = {}
        self._misses = 0
        self._library = libbpf.library()
        libbpf.log.clear()
        options = None if may_see_modules() else ctypes.byref(_without_modules())
        self._object = self._library.bpf_object__open_mem(self._image, len(self._image), options)
        if not self._object:
            raise self._failed("opened")

    def types(self) -> btf.Btf:
        """The object's own BTF."""
        return btf.Btf(libbpf.raw_btf(self._library.bpf_object__btf(self._object)))

    def programs(self) -> dict[str, str]:
        """All programs of the object, by name: the hook that the section names (`mark_victim`)."""
        return {
            self._library.bpf_program__name(program).decode(): section.decode().partition("/")[2]
            for program in self._each()
            if (section := self._library.bpf_program__section_name(program))
        }

    def choose(self, programs: Collection[str]) -> None:
        """Load these programs and no others."""
        for program in self._each():
            name = self._library.bpf_program__name(program).decode()
            self._library.bpf_program__set_autoload(program, name in programs)

    def set_max_entries(self, map_name: str, entries: int) -> None:
        """Size of a map (bytes for a ring); only before `load`."""
        if self._library.bpf_map__set_max_entries(self._map(map_name), entries):
            raise self._failed(f"given a {map_name} of {entries}")

    def set_initial_value(self, map_name: str, value: bytes) -> None:
        """Content of a read-only section, e.g. `.rodata.settings`; only before `load`."""
        if self._library.bpf_map__set_initial_value(self._map(map_name), value, len(value)):
            raise self._failed(f"given its {map_name}")

    def load(self) -> None:
        """Hand the chosen programs to the kernel; `LoadFailed` carries what it said."""
        if self._library.bpf_object__load(self._object):
            raise self._failed("loaded")

    def attach(self, program: str) -> None:
        """Attach one loaded program to the hook that its section names."""
        link = self._library.bpf_program__attach(self._program(program))
        if not link:
            raise self._failed(f"attached ({program})")
        self._links[program] = link
        self._files[program] = _file(self._library.bpf_link__fd(link))

    def map_fd(self, map_name: str) -> int:
        """File descriptor of a map; it belongs to the object."""
        return int(self._library.bpf_map__fd(self._map(map_name)))

    def map_pages(self, map_name: str, size_bytes: int = mmap.PAGESIZE) -> mmap.mmap:
        """The memory of a BPF_F_MMAPABLE array, writable, in whole pages."""
        pages = -(-size_bytes // mmap.PAGESIZE)
        return mmap.mmap(self.map_fd(map_name), pages * mmap.PAGESIZE)

    def items(self, map_name: str, key_bytes: int, value_bytes: int) -> dict[bytes, bytes]:
        """All elements of a hash; what comes or goes meanwhile may be missing."""
        fd, found = self.map_fd(map_name), {}
        key, after = None, ctypes.create_string_buffer(key_bytes)
        value = ctypes.create_string_buffer(value_bytes)
        while not self._library.bpf_map_get_next_key(fd, key, after):
            key = after.raw
            if not self._library.bpf_map_lookup_elem(fd, key, value):
                found[key] = value.raw
        return found

    def delete(self, map_name: str, key: bytes) -> bool:
        """Remove one element of a hash; whether it was there."""
        return not self._library.bpf_map_delete_elem(self.map_fd(map_name), key)

    def update(self, map_name: str, key: bytes | None, value: bytes) -> None:
        """Set one element of a map, or without a key add one to a queue."""
        if self._library.bpf_map_update_elem(self.map_fd(map_name), key, value, 0):
            raise errors.BpfError(f"map {map_name} cannot be written: {libbpf.error_text()}")

    def recursion_misses(self) -> int:
        """Runs of our programs that the kernel skipped, because one was running already."""
        if self._links:
            self._misses = sum(self._fdinfo(program, _MISSES) for program in self._links)
        return self._misses

    def verified_instructions(self) -> dict[str, int]:
        """Instructions that the verifier walked, by attached program; 0 before v5.16."""
        return {program: self._fdinfo(program, _INSTRUCTIONS) for program in self._links}

    def lost_links(self) -> list[str]:
        """Programs that were attached and whose file, which keeps them so, is no more theirs."""
        return [
            program
            for program, file in self._files.items()
            if program not in self._links
            or _file(self._library.bpf_link__fd(self._links[program])) != file
        ]

    def has_map(self, fd: int) -> bool:
        """Whether a file is a map still; something else may have its number."""
        return _file(fd) == _MAP_FILE

    def detach(self) -> None:
        """Detach all programs; what they left in the maps can still be read."""
        self.recursion_misses()
        for link in self._links.values():
            self._library.bpf_link__destroy(link)
        self._links.clear()

    def close(self) -> None:
        """Detach and unload; safe to call twice."""
        self.detach()
        if self._object:
            self._library.bpf_object__close(self._object)
            self._object = None

    def _each(self) -> Iterator[int]:
        program = self._library.bpf_object__next_program(self._object, None)
        while program:
            yield program
            program = self._library.bpf_object__next_program(self._object, program)

    def _program(self, name: str) -> int:
        found = self._library.bpf_object__find_program_by_name(self._object, name.encode())
        if not found:
            raise KeyError(name)
        return int(found)

    def _map(self, name: str) -> int:
        found = self._library.bpf_object__find_map_by_name(self._object, name.encode())
        if not found:
            raise KeyError(name)
        return int(found)

    def _fdinfo(self, program: str, pattern: re.Pattern[bytes]) -> int:
        fd = self._library.bpf_program__fd(self._program(program))
        with open(f"/proc/self/fdinfo/{fd}", "rb") as info:  # noqa: PTH123 - a plain read
            found = pattern.search(info.read())
        return int(found[1]) if found else 0

    def _failed(self, what: str) -> errors.LoadFailed:
        reason = libbpf.error_text() if ctypes.get_errno() else "no error number"
        evidence = "\n  ".join(list(libbpf.log)[-_EVIDENCE_LINES:])
        return errors.LoadFailed(f"{self.name}.bpf.o cannot be {what}: {reason}\n  {evidence}")


def _file(fd: int) -> str:
    """What kind of file has this number; empty if none has."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")  # noqa: PTH115 - every second
    except OSError:
        return ""


def _image(name: str) -> bytes:
    path = pathlib.Path(__file__).parent / "objects" / f"{name}.bpf.o"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise errors.ProbeUnsupported(
            f"{name}.bpf.o is not in the installed package; build it with `make bpf` "
            "(needs clang) and install again"
        ) from None
