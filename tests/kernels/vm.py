"""Runs a script as root on another kernel: QEMU without KVM, a small Debian root, the wheel.

    result = vm.run_in_vm(kernels["6.12"], here / "probe.py", files=[memory_cgroup_py])
    assert result.exit_code == 0, result.console

The script runs in a folder that holds the files, with `otel_oom` and its dependencies importable.
Code is emulated and about ten times slower than on the machine: assert on what happened, never
on how long it took.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pathlib
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from typing import Literal

import debian_kernels
from architectures import AMD64, Architecture
from doubles import cache, compiled

_HERE = pathlib.Path(__file__).parent
_DOUBLES = _HERE.parent / "doubles"
_TOOLS = _HERE.parents[1] / "tools"
_PACKAGES = "python3,libbpf1,iproute2,util-linux"
_ROOT_PYTHON = (3, 11)  # bookworm's, for which the wheels in .venv must have been chosen
# Of Debian's essential packages, what init.sh calls.
_ESSENTIAL = "base-files,coreutils,dash,mount,tar"
_WHEELS = _HERE.parents[1] / "build" / "wheel"
_EXIT = re.compile(r"^vm-exit: (\d+)\n\Z", re.MULTILINE)
# A loaded machine fails the timer check.
_CMDLINE = (
    "root=PARTUUID=6f6f6d31-01 rootwait rw init=/vm-init no_timer_check panic=-1 net.ifnames=0"
)
_ATTEMPTS = 2
_FIRST_SECTOR = 2048  # of the root's partition
_MBR_DISK_ID = 440  # offset of the disk's id in the partition table; the first entry follows it


class Unavailable(Exception):
    """This machine cannot make the VM; the text says what would help."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run left: `exit_code` is None when the VM died or hung before the script ended."""

    exit_code: int | None
    stdout: str
    console: str

    @property
    def lines(self) -> list[str]:
        """What the script printed, standard error included."""
        return self.stdout.splitlines()


def run_in_vm(
    kernel: debian_kernels.Kernel,
    script: pathlib.Path,
    files: Iterable[pathlib.Path] = (),
    *,
    cgroup: Literal["v1", "v2"] = "v2",
    packages: Iterable[str] = (),
    modules: Iterable[str] = (),
    devices: Iterable[str] = (),
    memory_mib: int = 1024,
    timeout_s: float = 600,
) -> Result:
    """Boot the kernel, run the script (`.py` or shell) and return what it printed.

    `files` (folders are whole) are laid beside the script by their names; `doubles` always is,
    with its C programs compiled. The kernel's `modules`, and what they need, are in a folder of
    that name if they are not built in. `devices` are more of QEMU's arguments. With `packages` of Debian
    beyond Python and libbpf, the VM has a root of its own. A VM that dies before its script ends
    is tried once more, because emulation is not perfect.
    """
    machine = kernel.architecture
    lines = f"console={machine.console} said={machine.said}"
    command = [
        *machine.qemu, "-m", str(memory_mib), "-nodefaults", "-no-reboot",
        "-display", "none", "-kernel", str(debian_kernels.image(kernel)),
        "-append", f"{lines} {_CMDLINE} memory_cgroup={cgroup} script={script.name}",
    ]  # fmt: skip
    command += [*_drive("root", _root(packages, machine)), *_drive("site", _site(machine))]
    command += devices
    laid = {file.name: file for file in (script, *files, _DOUBLES)}
    laid |= {f"modules/{file.name}": file for file in debian_kernels.modules(kernel, *modules)}
    for _ in range(_ATTEMPTS):
        result = _attempt(command, laid, machine, timeout_s)
        if result.exit_code is not None:
            break
    return result


def _attempt(
    command: list[str], files: dict[str, pathlib.Path], machine: Architecture, timeout_s: float
) -> Result:
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        _pack(files, folder / "files.tar", machine)
        console, said = folder / "console", folder / "said"
        lines = ["-serial", f"file:{console}", "-chardev", f"file,id=said,path={said}"]
        lines += machine.said_device
        command = [*command, *_drive("files", folder / "files.tar"), *lines]
        with contextlib.suppress(subprocess.TimeoutExpired):  # it is killed; the console tells
            subprocess.run(command, check=True, timeout=timeout_s)
        text = said.read_bytes().decode(errors="replace")
        ended = _EXIT.search(text)
        return Result(
            exit_code=int(ended[1]) if ended else None,
            stdout=text[: ended.start()] if ended else text,
            console=console.read_bytes().decode(errors="replace"),
        )


def _drive(serial: str, path: pathlib.Path) -> list[str]:
    """An NVMe drive, which all these kernels drive without a module; writes are thrown away."""
    return [
        "-drive", f"file={path},format=raw,if=none,id={serial},snapshot=on",
        "-device", f"nvme,serial={serial},drive={serial}",
    ]  # fmt: skip


def _pack(files: dict[str, pathlib.Path], target: pathlib.Path, machine: Architecture) -> None:
    """A tar that is read as a drive, so padded to whole pages."""
    with tarfile.open(target, "w", bufsize=tarfile.RECORDSIZE) as archive:
        for name, file in files.items():
            archive.add(file, arcname=name, filter=_without_caches)
        for source in _DOUBLES.glob("*.c"):
            program, name = compiled.binary(source.stem, machine.machine), source.stem
            archive.add(program, arcname=f"cache/otel-oom/{compiled.key(name)}/{name}")
    with target.open("ab") as padded:
        padded.write(bytes(-target.stat().st_size % 4096))


def _without_caches(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in member.name else member


def _root(more: Iterable[str], machine: Architecture) -> pathlib.Path:
    """The root file system: Debian 12 with Python and libbpf, and our init; kept in the cache."""
    init, packages = (_HERE / "init.sh").read_bytes(), ",".join([_PACKAGES, *more])
    if machine is not AMD64:
        packages += f",{_ESSENTIAL}"
    key = hashlib.sha256(init + packages.encode()).hexdigest()[:16]
    kind, mib = ("wideroot", 2048) if more else (f"root{machine.debian}", 1024)
    image = cache.folder("vm") / f"{kind}-{key}.ext4"
    if not image.exists():
        with tempfile.TemporaryDirectory() as name:
            tree = pathlib.Path(name) / "root"
            command = [str(_TOOLS / "debian_root.sh"), str(tree), f"--include={packages}"]
            if machine is not AMD64:
                # Nothing of another processor can be run here: unpacked, and not set up.
                command += [f"--architectures={machine.debian}", "--variant=extract"]
            subprocess.run(command, check=True)
            (tree / "vm-init").write_bytes(init)
            (tree / "vm-init").chmod(0o755)
            (tree / "opt/site").mkdir(parents=True, exist_ok=True)
            _make_ext4(tree, image, mib, first_byte=_FIRST_SECTOR * 512)
    return image


def _site(machine: Architecture) -> pathlib.Path:
    """The site-packages that run these tests, as a file system; made anew when they change.

    For another processor: the same wheel, and the same versions of what it needs.
    """
    if sys.version_info[:2] != _ROOT_PYTHON:
        wanted = ".".join(map(str, _ROOT_PYTHON))
        raise Unavailable(
            f"needs .venv made with Python {wanted}, as in the VM: apt-get install python3-venv"
        )
    site = pathlib.Path(sys.prefix, "lib", "python{}.{}".format(*_ROOT_PYTHON), "site-packages")
    stamp = max(path.stat().st_mtime_ns for path in site.iterdir())
    key = hashlib.sha256(f"{site} {stamp}".encode()).hexdigest()[:16]
    image = cache.folder("vm") / f"site{machine.debian}-{key}.ext4"
    if not image.exists() and machine is AMD64:
        _make_ext4(site, image, 512)
    elif not image.exists():
        with tempfile.TemporaryDirectory() as name:
            _install(pathlib.Path(name), machine)
            _make_ext4(pathlib.Path(name), image, 512)
    return image


def _install(target: pathlib.Path, machine: Architecture) -> None:
    wheels = list(_WHEELS.glob("*.whl"))
    if not wheels:
        raise Unavailable("needs the wheel in build/wheel: run `make venv`")
    pip = [sys.executable, "-m", "pip"]
    versions = target.with_suffix(".txt")
    versions.write_bytes(
        subprocess.check_output([*pip, "list", "--format=freeze", "--exclude=otel-oom"])
    )
    platforms = [f"--platform=manylinux{x}_{machine.machine}" for x in ("_2_28", "2014")]
    python = "{}.{}".format(*_ROOT_PYTHON)
    command = [*pip, "install", "--quiet", f"--target={target}", "--only-binary=:all:"]
    command += [*platforms, f"--python-version={python}", f"--constraint={versions}"]
    try:
        subprocess.run([*command, *wheels], check=True)
    finally:
        versions.unlink()


def _make_ext4(tree: pathlib.Path, image: pathlib.Path, mib: int, first_byte: int = 0) -> None:
    """An image of the tree in place of older ones of its kind, renamed into place when whole."""
    unfinished = image.with_suffix(".tmp")
    command = ["mkfs.ext4", "-q", "-F", "-d", str(tree), "-E", f"offset={first_byte}"]
    with unfinished.open("wb") as file:
        file.truncate(first_byte + (mib << 20))
    subprocess.run([*command, unfinished, f"{mib}M"], check=True)
    if first_byte:
        _write_partition_table(unfinished)
    kind, _, _ = image.stem.partition("-")
    for old in image.parent.glob(f"{kind}-*.ext4"):
        old.unlink()
    unfinished.rename(image)


def _write_partition_table(image: pathlib.Path) -> None:
    """One Linux partition (MBR), so that the kernel finds its root by PARTUUID."""
    sectors = image.stat().st_size // 512 - _FIRST_SECTOR
    with image.open("r+b") as file:
        file.seek(_MBR_DISK_ID)
        file.write(struct.pack("<IH", 0x6F6F6D31, 0))
        file.write(struct.pack("<4xB3xII", 0x83, _FIRST_SECTOR, sectors))
        file.seek(510)
        file.write(b"\x55\xaa")
