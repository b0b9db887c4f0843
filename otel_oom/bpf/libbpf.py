"""Every prototype of libbpf that we call, and nothing else.

libbpf 1.0 or newer: from there on a call that fails returns NULL or -1 (or -errno) and sets
errno, and no error hides in a pointer (libbpf.h, "libbpf 1.0 migration guide").
"""

from __future__ import annotations

import collections
import ctypes
import functools
import os
from typing import Any

from otel_oom import errors

_LIBRARY = "libbpf.so.1"
_LOG_LINES = 200
_LOG_BYTES = 1 << 24  # a verifier log is one message, and its reason stands at the end
_DEBUG = 2

_pointer = ctypes.c_void_p
_PRINT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, _pointer, _pointer)
SAMPLE = ctypes.CFUNCTYPE(ctypes.c_int, _pointer, _pointer, ctypes.c_size_t)
"""Callback of a ring: (context, data, size) -> 0, or negative to stop."""

_PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "libbpf_set_print": (_pointer, (_PRINT,)),
    "bpf_object__open_mem": (_pointer, (ctypes.c_char_p, ctypes.c_size_t, _pointer)),
    "bpf_object__load": (ctypes.c_int, (_pointer,)),
    "bpf_object__close": (None, (_pointer,)),
    "bpf_object__btf": (_pointer, (_pointer,)),
    "bpf_object__find_program_by_name": (_pointer, (_pointer, ctypes.c_char_p)),
    "bpf_object__next_program": (_pointer, (_pointer, _pointer)),
    "bpf_object__find_map_by_name": (_pointer, (_pointer, ctypes.c_char_p)),
    "bpf_program__name": (ctypes.c_char_p, (_pointer,)),
    "bpf_program__section_name": (ctypes.c_char_p, (_pointer,)),
    "bpf_program__set_autoload": (ctypes.c_int, (_pointer, ctypes.c_bool)),
    "bpf_program__fd": (ctypes.c_int, (_pointer,)),
    "bpf_program__attach": (_pointer, (_pointer,)),
    "bpf_link__destroy": (ctypes.c_int, (_pointer,)),
    "bpf_link__fd": (ctypes.c_int, (_pointer,)),
    "bpf_map__fd": (ctypes.c_int, (_pointer,)),
    "bpf_map__set_max_entries": (ctypes.c_int, (_pointer, ctypes.c_uint32)),
    "bpf_map__set_initial_value": (ctypes.c_int, (_pointer, ctypes.c_char_p, ctypes.c_size_t)),
    "bpf_map_lookup_elem": (ctypes.c_int, (ctypes.c_int, _pointer, _pointer)),
    "bpf_map_delete_elem": (ctypes.c_int, (ctypes.c_int, _pointer)),
    "bpf_map_get_next_key": (ctypes.c_int, (ctypes.c_int, _pointer, _pointer)),
    "bpf_map_update_elem": (
        ctypes.c_int,
        (ctypes.c_int, _pointer, _pointer, ctypes.c_uint64),
    ),
    "btf__load_vmlinux_btf": (_pointer, ()),
    "btf__load_module_btf": (_pointer, (ctypes.c_char_p, _pointer)),
    "btf__free": (None, (_pointer,)),
    "btf__raw_data": (_pointer, (_pointer, ctypes.POINTER(ctypes.c_uint32))),
    "btf__find_by_name_kind": (ctypes.c_int32, (_pointer, ctypes.c_char_p, ctypes.c_uint32)),
    "btf__type_by_id": (_pointer, (_pointer, ctypes.c_uint32)),
    "ring_buffer__new": (_pointer, (ctypes.c_int, SAMPLE, _pointer, _pointer)),
    "ring_buffer__consume": (ctypes.c_int, (_pointer,)),
    "ring_buffer__free": (None, (_pointer,)),
}


class OpenOptions(ctypes.Structure):
    """`struct bpf_object_open_opts` (libbpf.h) up to the last field that we set."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("object_name", ctypes.c_char_p),
        ("relaxed_maps", ctypes.c_bool),
        ("pin_root_path", ctypes.c_char_p),
        ("removed", ctypes.c_uint32),
        ("kconfig", ctypes.c_char_p),
        ("btf_custom_path", ctypes.c_char_p),
    )


log: collections.deque[str] = collections.deque(maxlen=_LOG_LINES)
"""What libbpf and the verifier last said, a line each; the evidence of a `LoadFailed`."""


@functools.cache
def library() -> Any:
    """The library with its prototypes set, or `ProbeUnsupported` that says how to get it."""
    try:
        loaded = ctypes.CDLL(_LIBRARY, use_errno=True)
    except OSError as error:
        raise errors.ProbeUnsupported(
            f"{_LIBRARY} cannot be loaded ({error}); install libbpf 1.0 or newer "
            "(Debian 12, Ubuntu 24.04: package libbpf1; RHEL 9: libbpf)"
        ) from error
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, list(arguments)
    loaded.libbpf_set_print(_print)
    return loaded


def error_text() -> str:
    """The last call's errno, as text."""
    return os.strerror(ctypes.get_errno())


def raw_btf(btf: int) -> bytes:
    """The bytes of a `struct btf *` (kernel Documentation/bpf/btf.rst)."""
    size = ctypes.c_uint32()
    data = library().btf__raw_data(btf, ctypes.byref(size))
    return ctypes.string_at(data, size.value)


def _print_to_log(level: int, form: int, arguments: int) -> int:
    if level >= _DEBUG:
        return 0
    buffer = ctypes.create_string_buffer(_LOG_BYTES)
    written = _libc().vsnprintf(buffer, _LOG_BYTES, form, arguments)
    log.extend(buffer.value.decode("utf-8", "replace").splitlines())
    return int(written)


_print = _PRINT(_print_to_log)
# Kept here, because libbpf calls it for as long as the process lives.


@functools.cache
def _libc() -> Any:
    libc = ctypes.CDLL(None)
    libc.vsnprintf.argtypes = [ctypes.c_char_p, ctypes.c_size_t, _pointer, _pointer]
    return libc
