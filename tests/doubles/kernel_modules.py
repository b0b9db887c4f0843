"""Loads kernel modules that lie in a folder, as `.ko` files with all that they need. Needs root."""

from __future__ import annotations

import ctypes
import errno
import os
import pathlib
from collections.abc import Iterable

_FINIT_MODULE = {"x86_64": 313, "aarch64": 273}[os.uname().machine]  # the system call's number
_libc = ctypes.CDLL(None, use_errno=True)


def load_all(paths: Iterable[pathlib.Path]) -> None:
    """Load them without parameters, in whatever order they need. Raises OSError."""
    waiting = list(paths)
    while waiting:
        left = [path for path in waiting if not _loaded(path)]
        if len(left) == len(waiting):
            load(left[0])
        waiting = left


def load(path: pathlib.Path, parameters: str = "") -> None:
    """One module with parameters, as modprobe takes them. One that is there already is well."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.syscall(_FINIT_MODULE, file, parameters.encode(), 0):
            number = ctypes.get_errno()
            if number != errno.EEXIST:
                raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(file)


def _loaded(path: pathlib.Path) -> bool:
    """Whether it went; not while one that it needs is missing."""
    try:
        load(path)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
        return False
    return True
