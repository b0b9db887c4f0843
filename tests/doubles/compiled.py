"""C programs of this folder, compiled once for each state of their source and kept in the cache."""

from __future__ import annotations

import functools
import hashlib
import pathlib
import platform
import shutil
import subprocess
import tempfile

from doubles import cache

_HERE = pathlib.Path(__file__).parent
_FLAGS = ["-O1", "-static", "-pthread", "-Wall", "-Werror"]


class Unavailable(Exception):
    """There is no C compiler; the text says how to get one."""


def key(name: str) -> str:
    """The folder of the cache for the state of a program's source."""
    source = (_HERE / f"{name}.c").read_bytes()
    return f"{name}-{hashlib.sha256(source).hexdigest()[:16]}"


@functools.cache
def binary(name: str, machine: str = platform.machine()) -> pathlib.Path:
    """The program of `NAME.c`. It is static, so that it also runs in a VM or a container."""
    foreign = machine != platform.machine()
    made = cache.folder(key(name) + (f"-{machine}" if foreign else "")) / name
    if not made.exists():
        _compile(_compiler(name, machine, foreign=foreign), _HERE / f"{name}.c", made)
    return made


def _compiler(name: str, machine: str, *, foreign: bool) -> str:
    if foreign:
        package = f"gcc-{machine.replace('_', '-')}-linux-gnu"
        compiler, remedy = shutil.which(f"{machine}-linux-gnu-gcc"), f"{package} libc6-dev-*-cross"
    else:
        compiler, remedy = shutil.which("cc") or shutil.which("clang"), "clang libc6-dev"
    if compiler is None:
        raise Unavailable(f"no C compiler for {name}.c: apt-get install {remedy}")
    return compiler


def _compile(compiler: str, source: pathlib.Path, binary: pathlib.Path) -> None:
    """Renamed into place when whole."""
    with tempfile.TemporaryDirectory(dir=binary.parent) as folder:
        made = pathlib.Path(folder) / binary.name
        subprocess.run([compiler, *_FLAGS, str(source), "-o", str(made)], check=True)
        made.rename(binary)
