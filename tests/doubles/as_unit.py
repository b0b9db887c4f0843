"""Runs a command as a systemd unit would let it: system calls of its filter alone, no new rights.

    python as_unit.py FILTER COMMAND...

FILTER has names of system calls and of systemd's groups (`@system-service bpf`), as in
SystemCallFilter=. Every other call fails with EPERM. Needs libseccomp, which systemd brings.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

_ERRNO, _ALLOW, _EPERM = 0x00050000, 0x7FFF0000, 1


def calls(filter_: str) -> set[str]:
    """The system calls of a filter, the groups of groups among them."""
    found: set[str] = set()
    for word in filter_.split():
        if not word.startswith("@"):
            found.add(word)
            continue
        said = subprocess.check_output(["systemd-analyze", "syscall-filter", word], text=True)
        lines = (line.strip() for line in said.splitlines()[1:])
        found |= calls(" ".join(line for line in lines if line and line[0] != "#"))
    return found


def confine(names: set[str]) -> None:
    """Let this process, and what it becomes, make these system calls and no others."""
    seccomp = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(_ERRNO | _EPERM)))
    for name in names:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # else it is another processor's
            seccomp.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)
    if error := seccomp.seccomp_load(context):
        raise OSError(-error, os.strerror(-error))


if __name__ == "__main__":
    confine(calls(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
