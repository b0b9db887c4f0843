"""Debian's cloud kernels, fetched as packages by apt from the mirror that this machine uses.

Nothing is installed: each suite has its own apt folder in the user's cache, and of its packages
only the kernel image is unpacked, and its modules when they are asked for. All have BTF, memory
cgroups, ext4 and NVMe built in.
"""

from __future__ import annotations

import dataclasses
import itertools
import lzma
import os
import pathlib
import re
import shutil
import struct
import subprocess

from architectures import AMD64, ARM64, Architecture
from doubles import cache

_SOURCES = pathlib.Path(__file__).parents[2] / "tools" / "debian_sources.sh"
_KERNEL_PACKAGE = re.compile(r"Depends: (linux-(?:image|binary|modules|base)-\S*cloud\S*)")
_VMLINUZ = ("boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz")  # the second from 7.x on


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel series, the Debian suite that has it, and whether it still knows cgroup v1."""

    series: str
    suite: str
    has_memory_v1: bool
    architecture: Architecture = AMD64

    def __str__(self) -> str:
        """Its series, and the processor if it is not the usual one."""
        other = "" if self.architecture is AMD64 else f"-{self.architecture.debian}"
        return f"{self.series}{other}"

    @property
    def folder(self) -> pathlib.Path:
        """Where it is cached."""
        other = "" if self.architecture is AMD64 else f"-{self.architecture.debian}"
        return cache.folder("kernels") / f"{self.suite}{other}"


KERNELS = (
    Kernel("5.10", "bullseye", has_memory_v1=True),
    Kernel("6.1", "bookworm", has_memory_v1=True),
    Kernel("6.12", "trixie", has_memory_v1=False),
    Kernel("7.x", "sid", has_memory_v1=False),
)
ARM64_KERNELS = (
    Kernel("6.1", "bookworm", has_memory_v1=True, architecture=ARM64),
    Kernel("6.12", "trixie", has_memory_v1=False, architecture=ARM64),
)
"""One without BPF trampolines, which came to arm64 in 6.0 to 6.4, and one with them."""


class Unavailable(Exception):
    """The mirror does not have the kernel; the text ends with what apt said."""


def image(kernel: Kernel) -> pathlib.Path:
    """The bootable vmlinuz, from the cache when it was fetched before. Raises `Unavailable`."""
    folder = kernel.folder
    if not (folder / "vmlinuz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(kernel, folder)
    return folder / "vmlinuz"


def modules(kernel: Kernel, *names: str) -> list[pathlib.Path]:
    """Of these modules and what they need, those that are not built in. Raises `Unavailable`."""
    folder = kernel.folder
    if not (folder / "modules").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _fetch(kernel, folder)
    built_in = (folder / "modules" / "builtin").read_text().split()
    found: dict[str, pathlib.Path] = {}
    asked = list(names)
    while asked:
        name = asked.pop().replace("-", "_")
        if name in found or name in built_in:
            continue
        path = folder / "modules" / f"{name}.ko"
        if not path.exists():
            raise Unavailable(f"the kernel of {kernel.suite} has no module {name}")
        found[name] = path
        asked += _needed(path)
    return list(found.values())


def _needed(module: pathlib.Path) -> list[str]:
    """The modules that it names in its section .modinfo."""
    said = re.search(rb"\0depends=([^\0]*)\0", module.read_bytes())
    return [name for name in said[1].decode().split(",") if name] if said else []


def release(kernel: Kernel) -> str:
    """What `uname -r` says in an amd64 kernel: the boot header's text (Documentation/arch/x86/boot.rst)."""
    head = image(kernel).read_bytes()[:32768]
    (offset,) = struct.unpack_from("<H", head, 0x20E)
    return head[offset + 0x200 :].split(b" ", 1)[0].decode()


def _fetch(kernel: Kernel, folder: pathlib.Path) -> None:
    """Update the suite's own lists, download the kernel's packages, keep image and modules."""
    apt = _Apt(kernel, folder / "apt")
    apt.run("apt-get", "update", "-q")
    apt.run("apt-get", "download", *apt.kernel_packages(), cwd=folder)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "unpacked"], check=True)
        package.unlink()
    found = itertools.chain(*(folder.glob(f"unpacked/{where}") for where in _VMLINUZ))
    next(found).rename(folder / "vmlinuz")
    _keep_modules(folder)
    shutil.rmtree(folder / "unpacked")


def _keep_modules(folder: pathlib.Path) -> None:
    """All of them in one folder, not compressed, spelled as the kernel itself does."""
    kept = folder / "modules.tmp"
    kept.mkdir(exist_ok=True)
    for path in folder.glob("unpacked/**/*.ko*"):
        name = path.name.partition(".")[0].replace("-", "_")
        packed = path.read_bytes()
        (kept / f"{name}.ko").write_bytes(
            lzma.decompress(packed) if path.suffix == ".xz" else packed
        )
    (list_,) = folder.glob("unpacked/**/modules.builtin")
    built_in = [pathlib.Path(line).stem.replace("-", "_") for line in list_.read_text().split()]
    (kept / "builtin").write_text("\n".join(built_in))
    kept.rename(folder / "modules")


class _Apt:
    """apt with the lists and sources of one suite, beside the machine's own."""

    def __init__(self, kernel: Kernel, folder: pathlib.Path) -> None:
        self._debian = kernel.architecture.debian
        for name in ("lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        sources = folder / "sources.list"
        sources.write_text(subprocess.check_output([_SOURCES, kernel.suite, "--plain"], text=True))
        self._config = folder / "apt.conf"
        self._config.write_text(
            f'Dir::Etc::SourceList "{sources}";\n'
            'Dir::Etc::SourceParts "-";\n'
            f'Dir::State::Lists "{folder}/lists";\n'
            f'Dir::Cache "{folder}/cache";\n'
            f'APT::Architecture "{self._debian}";\n'
            'APT::Sandbox::User "root";\n'
            'Acquire::Languages "none";\n'
        )

    def run(self, *command: str, cwd: pathlib.Path | None = None) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._config), "LC_ALL": "C"}
        done = subprocess.run(
            command, env=environment, cwd=cwd, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Unavailable(f"{' '.join(command)}: {(done.stdout + done.stderr)[-500:]}")
        return done.stdout

    def kernel_packages(self) -> list[str]:
        """What the meta package leads to; newer kernels are split."""
        meta = f"linux-image-cloud-{self._debian}"
        found: list[str] = []
        asked = [meta]
        while asked:
            told = self.run("apt-cache", "depends", asked.pop())
            names = set(_KERNEL_PACKAGE.findall(told)) - {meta, *found}
            found += names
            asked += names
        return found
