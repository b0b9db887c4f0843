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

from doubles import compiled, memory_cgroup
from doubles import containerd as containerd_

_KERNEL_BTF = pathlib.Path("/sys/kernel/btf/vmlinux")
_GO_MINIMUM = (1, 24)
_STORAGE_TOOLS = {
    "losetup": "mount",
    "mount": "mount",
    "taskset": "util-linux",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.btrfs": "btrfs-progs",
    "fio": "fio",
}
"""What makes each, as Debian packages it."""


@functools.cache
def root() -> str | None:
    """Real OOM kills and BPF programs."""
    if os.geteuid() != 0:
        return "needs root to load BPF programs and to make OOM kills: run `make test` as root"
    if not _KERNEL_BTF.exists():
        return "needs a kernel with BTF: boot one built with CONFIG_DEBUG_INFO_BTF=y"
    return memory_cgroup.unavailable()


@functools.cache
def storage() -> str | None:
    """Slow disks: loop devices over FUSE, with file systems, watched by the kernel's trace."""
    if os.geteuid() != 0:
        return "needs root to make loop devices and to trace the kernel: run `make test` as root"
    for device, module in (("/dev/loop-control", "loop"), ("/dev/fuse", "fuse")):
        if not pathlib.Path(device).exists():
            return f"needs {device}: modprobe {module}; a container needs the device given to it"
    if "tracefs" not in pathlib.Path("/proc/filesystems").read_text():
        return "needs tracefs: boot a kernel built with CONFIG_FTRACE=y"
    missing = [tool for tool in _STORAGE_TOOLS if shutil.which(tool) is None]
    if missing:
        packages = " ".join(sorted({_STORAGE_TOOLS[tool] for tool in missing}))
        return f"needs {', '.join(missing)}: apt-get install {packages}"
    try:
        compiled.binary("slow_fuse")
    except compiled.Unavailable as error:
        return str(error)
    return None


@functools.cache
def go() -> str | None:
    """Real peers built from Go modules."""
    wanted = ".".join(map(str, _GO_MINIMUM))
    how = f"install Go {wanted} or newer and put its `go` on the PATH"
    if shutil.which("go") is None:
        return f"needs Go to build the real peers, and there is none: {how}"
    said = subprocess.run(["go", "version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"go(\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < _GO_MINIMUM:
        return f"needs Go {wanted} to build the real peers, here is {said.strip()!r}: {how}"
    return None


@functools.cache
def containerd() -> str | None:
    """Real containers, as Kubernetes' nodes run them."""
    if missing := containerd_.missing():
        return f"needs containerd to run real containers: apt-get install {' '.join(missing)}"
    return root()


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
