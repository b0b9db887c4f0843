"""C programs of this folder, compiled once for each state of their source and kept in the cache."""

from __future__ import annotations

import functools
import hashlib
import pathlib
import shutil
import subprocess
import tempfile

from doubles import cache

_HERE = pathlib.Path(__file__).parent
_FLAGS = ["-O1", "-static", "-pthread", "-Wall", "-Werror"]


class Unavailable(Exception):
    """There is no C compiler; the text says how to get one."""


@functools.cache
def binary(name: str) -> pathlib.Path:
    """The program of `NAME.c`. It is static, so that it also runs in a VM or a container."""
    source = _HERE / f"{name}.c"
    key = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    made = cache.folder(f"{name}-{key}") / name
    if not made.exists():
        compiler = shutil.which("cc") or shutil.which("clang")
        if compiler is None:
            raise Unavailable(f"no C compiler for {name}.c: apt-get install clang libc6-dev")
        _compile(compiler, source, made)
    return made


def _compile(compiler: str, source: pathlib.Path, binary: pathlib.Path) -> None:
    """Renamed into place when whole."""
    with tempfile.TemporaryDirectory(dir=binary.parent) as folder:
        made = pathlib.Path(folder) / binary.name
        subprocess.run([compiler, *_FLAGS, str(source), "-o", str(made)], check=True)
        made.rename(binary)
