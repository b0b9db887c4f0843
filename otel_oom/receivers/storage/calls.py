"""Which system call is which storage operation, by the processor's numbers.

Numbers: arch/x86/entry/syscalls/syscall_64.tbl, include/uapi/asm-generic/unistd.h (arm64).
"""

from __future__ import annotations

import platform

from otel_oom.bpf.storage_operations_events import StorageCall

_X86_64: dict[StorageCall, tuple[int, ...]] = {
    StorageCall.READ: (0, 17, 19, 295, 327),
    StorageCall.WRITE: (1, 18, 20, 296, 328),
    StorageCall.FSYNC: (74,),
    StorageCall.FDATASYNC: (75,),
    StorageCall.SYNC_FILE_RANGE: (277,),
    StorageCall.SYNCFS: (306,),
    StorageCall.SYNC: (162,),
    StorageCall.FALLOCATE: (285,),
    StorageCall.TRUNCATE: (77,),
    StorageCall.OPEN: (2, 85, 257, 437),
    StorageCall.UNLINK: (87, 263),
    StorageCall.RENAME: (82, 264, 316),
    StorageCall.MKDIR: (83, 258),
    StorageCall.SUBMIT: (209, 426),
}
_ARM64: dict[StorageCall, tuple[int, ...]] = {
    StorageCall.READ: (63, 65, 67, 69, 286),
    StorageCall.WRITE: (64, 66, 68, 70, 287),
    StorageCall.FSYNC: (82,),
    StorageCall.FDATASYNC: (83,),
    StorageCall.SYNC_FILE_RANGE: (84,),
    StorageCall.SYNCFS: (267,),
    StorageCall.SYNC: (81,),
    StorageCall.FALLOCATE: (47,),
    StorageCall.TRUNCATE: (46,),
    StorageCall.OPEN: (56, 437),
    StorageCall.UNLINK: (35,),
    StorageCall.RENAME: (38, 276),
    StorageCall.MKDIR: (34,),
    StorageCall.SUBMIT: (2, 426),
}
_TABLES = {"x86_64": _X86_64, "aarch64": _ARM64}

NAMES: dict[str, StorageCall] = {call.name.lower(): call for call in _X86_64}
"""Operations as a config names them."""


def table(size: int, machine: str = "") -> bytes:
    """A byte for each system call: its `StorageCall`, 0 for those that are none.

    `KeyError` for a processor whose numbers are not here.
    """
    calls = bytearray(size)
    for call, numbers in _TABLES[machine or platform.machine()].items():
        for number in numbers:
            calls[number] = call
    return bytes(calls)
