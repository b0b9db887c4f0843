"""Watches what a process does to its files, system call by system call, and can kill it at any.

    ended = disk_tracer.run(main, on_call)     # forks; `main()` runs in the child

`on_call` is told of each call of `WRITES` before the kernel does it; if it returns False, the child
gets SIGKILL there, and the call is not done. By ptrace, for all threads of the child.
"""

from __future__ import annotations

import ctypes
import dataclasses
import errno
import os
import pathlib
import platform
import signal
import struct
import traceback
from collections.abc import Callable

_X86_64 = {
    1: "write", 18: "pwrite64", 20: "writev", 296: "pwritev", 74: "fsync", 75: "fdatasync",
    77: "ftruncate", 82: "rename", 83: "mkdir", 87: "unlink", 257: "openat", 263: "unlinkat",
    264: "renameat", 285: "fallocate", 316: "renameat2",
}  # fmt: skip
_AARCH64 = {
    64: "write", 68: "pwrite64", 66: "writev", 70: "pwritev", 82: "fsync", 83: "fdatasync",
    46: "ftruncate", 34: "mkdirat", 56: "openat", 35: "unlinkat", 38: "renameat",
    47: "fallocate", 276: "renameat2",
}  # fmt: skip
WRITES = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(platform.machine(), {})
"""The calls that change files, by the kernel's numbers of this machine."""

_TRACEME, _CONT, _SETOPTIONS, _SYSCALL, _GET_SYSCALL_INFO = 0, 7, 0x4200, 24, 0x420E
_SYSGOOD, _TRACECLONE, _EXITKILL = 0x1, 0x8, 0x100000
_WALL = 0x40000000
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_INFO = struct.Struct("=B3xIQQQ6Q")  # struct ptrace_syscall_info, at an entry
_ENTRY = 1
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


@dataclasses.dataclass(frozen=True)
class Call:
    """A system call that is about to be done."""

    name: str
    pid: int
    arguments: tuple[int, ...]

    def path(self) -> str:
        """The file behind the first argument."""
        return str(pathlib.Path(f"/proc/{self.pid}/fd/{self.arguments[0]}").readlink())

    def bytes(self, address: int, size: int) -> bytes:
        """The caller's memory."""
        with pathlib.Path(f"/proc/{self.pid}/mem").open("rb", buffering=0) as memory:
            memory.seek(address)
            return memory.read(size)

    def text(self, argument: int) -> str:
        """A path that is an argument, as the caller wrote it."""
        address = self.arguments[argument]
        page_end = 4096 - address % 4096
        text = self.bytes(address, page_end)
        if b"\0" not in text:
            text += self.bytes(address + page_end, 4096)
        return os.fsdecode(text.partition(b"\0")[0])


def run(main: Callable[[], None], on_call: Callable[[Call], bool]) -> int:
    """How the child ended, as `subprocess` says it: an exit status, or minus a signal."""
    child = os.fork()
    if child == 0:
        _be_traced(main)
    return _watch(child, on_call)


def _be_traced(main: Callable[[], None]) -> None:
    status = 1
    try:
        _ptrace(_TRACEME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        main()
        status = 0
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        os._exit(status)


def _watch(child: int, on_call: Callable[[Call], bool]) -> int:
    os.waitpid(child, 0)
    _ptrace(_SETOPTIONS, child, data=_SYSGOOD | _TRACECLONE | _EXITKILL)
    _ptrace(_SYSCALL, child)
    while True:
        pid, status = os.waitpid(-1, _WALL)
        if os.WIFSTOPPED(status):
            _go_on(child, pid, status, on_call)
        elif pid == child:
            return os.waitstatus_to_exitcode(status)


def _go_on(child: int, pid: int, status: int, on_call: Callable[[Call], bool]) -> None:
    """Let a stopped thread go on to its next call, or end all of them."""
    stopped_by = os.WSTOPSIG(status)
    told = 0 if stopped_by in (_SYSCALL_STOP, signal.SIGTRAP, signal.SIGSTOP) else stopped_by
    if stopped_by == _SYSCALL_STOP and (call := _entered(pid)) and not on_call(call):
        os.kill(child, signal.SIGKILL)
    try:
        _ptrace(_SYSCALL, pid, data=told)
    except ProcessLookupError:
        return  # it is killed


def _entered(pid: int) -> Call | None:
    buffer = ctypes.create_string_buffer(128)
    try:
        _ptrace(_GET_SYSCALL_INFO, pid, len(buffer), ctypes.addressof(buffer))
    except ProcessLookupError:
        return None
    op, _, _, _, number, *arguments = _INFO.unpack_from(buffer)
    if op != _ENTRY or number not in WRITES:
        return None
    return Call(WRITES[number], pid, tuple(arguments))


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    ctypes.set_errno(0)
    result = int(_libc.ptrace(request, pid, address, data))
    if result < 0 and (error := ctypes.get_errno()):
        if error == errno.ESRCH:
            raise ProcessLookupError(error, os.strerror(error))
        raise OSError(error, os.strerror(error))
    return result
