"""What a test's marker needs, and the sentence that is shown where the machine lacks it.

Each function returns None where the need is met. A sentence says what is missing and how to
get it.
"""

from __future__ import annotations

import functools
import os
import pathlib
import re
import shutil
import subprocess

from doubles import memory_cgroup

_KERNEL_BTF = pathlib.Path("/sys/kernel/btf/vmlinux")
_GO_MINIMUM = (1, 24)


@functools.cache
def root() -> str | None:
    """Real OOM kills and BPF programs."""
    if os.geteuid() != 0:
        return "needs root to load BPF programs and to make OOM kills: run `make test` as root"
    if not _KERNEL_BTF.exists():
        return "needs a kernel with BTF: boot one built with CONFIG_DEBUG_INFO_BTF=y"
    return memory_cgroup.unavailable()


@functools.cache
def go() -> str | None:
    """Real peers built from Go modules."""
    wanted = ".".join(map(str, _GO_MINIMUM))
    how = f"install Go {wanted} or newer and put its `go` on the PATH"
    if shutil.which("go") is None:
        return f"needs Go to build the real collector, and there is none: {how}"
    said = subprocess.run(["go", "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < _GO_MINIMUM:
        return f"needs Go {wanted} to build the real collector, here is {said.strip()!r}: {how}"
    return None


@functools.cache
def image() -> str | None:
    """The container image: built with buildah, run with runc."""
    missing = [tool for tool in ("buildah", "runc", "mmdebstrap") if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)} to build and run the container image: run `make image` once"
    return root()


@functools.cache
def kernels() -> str | None:
    """Other kernels, booted in QEMU."""
    tools = {
        "qemu-system-x86_64": "qemu-system-x86",
        "mmdebstrap": "mmdebstrap",
        "mkfs.ext4": "e2fsprogs",
    }
    missing = [package for tool, package in tools.items() if shutil.which(tool) is None]
    if missing:
        return f"needs QEMU and a root made of Debian packages: apt-get install {' '.join(missing)}"
    return None if os.geteuid() == 0 else "needs root to make the VM's root: run as root"
