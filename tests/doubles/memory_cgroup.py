"""A temporary memory cgroup, v1 or v2, in which tests and the demo make real OOM kills.

    with memory_cgroup.temporary(limit_bytes=64 << 20) as group:
        hog = group.hog("eat=100M")
        assert hog.wait() == -signal.SIGKILL
        assert group.oom_kills() == 1

A cgroup is the machine's memory hierarchy, whichever version has the memory controller; what
differs between the two is known here only. Needs root.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from doubles import compiled

_V2_FILES = {"limit": "memory.max", "usage": "memory.current", "swap_limit": "memory.swap.max"}
_V1_FILES = {
    "limit": "memory.limit_in_bytes",
    "usage": "memory.usage_in_bytes",
    "swap_limit": "memory.memsw.limit_in_bytes",
}
_REMOVAL_S = 10.0
_POLL_S = 0.001
_numbers = itertools.count()


class Unavailable(Exception):
    """This machine gives no memory cgroup; the text says why, and what would help."""


class KilledAnother(Exception):
    """The kernel killed a process that the test counted on, besides the victim or instead.

    It does when the victim's memory is slow to come back, and nothing here may forbid it
    (CAP_SYS_RESOURCE). Nothing was learnt then, so the test is run once more (pyproject.toml).
    """


class MemoryCgroup:
    """One cgroup directory. `parent` is None for the one that `temporary` made."""

    def __init__(self, path: pathlib.Path, root: pathlib.Path) -> None:
        self.path = path
        self._root = root
        self.version = 2 if (path / "cgroup.controllers").exists() else 1
        self._files = _V2_FILES if self.version == 2 else _V1_FILES

    @property
    def name(self) -> str:
        """The cgroup as /proc/PID/cgroup and `process.linux.cgroup` spell it."""
        return "/" + str(self.path.relative_to(self._root))

    @property
    def inode(self) -> int:
        """The kernel's id of the cgroup (`kn->id`, the inode of its directory)."""
        return self.path.stat().st_ino

    def child(
        self, name: str, limit_bytes: int | None = None, *, group: bool = False
    ) -> MemoryCgroup:
        """A nested cgroup. On v2 its parent must hold no process (cgroup-v2.rst)."""
        if self.version == 2:
            self._write("cgroup.subtree_control", "+memory")
        return _make(self.path / name, self._root, limit_bytes, group=group)

    def set_limit(self, limit_bytes: int) -> None:
        """Limit of memory, with no swap beyond it, so that the limit means a kill."""
        swap = "0" if self.version == 2 else str(limit_bytes)
        # Twice: v1 wants memory + swap raised before memory, and lowered after it. A kernel
        # without swap accounting has no such file.
        with contextlib.suppress(OSError):
            self._write(self._files["swap_limit"], swap)
        self._write(self._files["limit"], str(limit_bytes))
        with contextlib.suppress(OSError):
            self._write(self._files["swap_limit"], swap)

    def limit_bytes(self) -> int:
        """The limit as the kernel rounded it."""
        return int(self._read(self._files["limit"]))

    def usage_bytes(self) -> int:
        """Memory charged to the cgroup now."""
        return int(self._read(self._files["usage"]))

    def events(self) -> dict[str, int]:
        """The counters: v2 `memory.events`, v1 `memory.oom_control`; both have `oom_kill`."""
        text = self._read("memory.events" if self.version == 2 else "memory.oom_control")
        return {key: int(value) for key, value in map(str.split, text.splitlines())}

    def oom_kills(self) -> int:
        """Kills as the kernel counts them: v2 with the cgroups below, v1 this one alone."""
        return self.events()["oom_kill"]

    def pids(self) -> list[int]:
        """Processes in this very cgroup."""
        return [int(pid) for pid in self._read("cgroup.procs").split()]

    def run(self, *command: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
        """Start a command; it is inside when this returns.

        A shell enters the cgroup first: `preexec_fn` is unsafe among threads.
        """
        enter = 'echo $$ > "$0" && exec "$@"'
        argv = ["sh", "-c", enter, str(self.path / "cgroup.procs"), *command]
        process = subprocess.Popen(argv, **options)
        while process.pid not in self.pids() and process.poll() is None:
            time.sleep(_POLL_S)
        return process

    def hog(self, *steps: str | bytes, **options: Any) -> subprocess.Popen[bytes]:
        """Start the hog inside; its steps are told in hog.c."""
        return self.run(str(hog_binary()), *steps, **options)

    def remove(self) -> None:
        """Kill what is inside and remove the cgroup, the ones below it first."""
        for below in self.path.glob("*/"):
            MemoryCgroup(below, self._root).remove()
        deadline = time.monotonic() + _REMOVAL_S
        while not self._removed():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.path} still holds {self.pids()}")
            time.sleep(_POLL_S)

    def _removed(self) -> bool:
        """One try; a cgroup is busy until its killed processes are gone."""
        try:
            for pid in self.pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno not in {errno.EBUSY, errno.ENODEV}:
                raise
            return False
        return True

    def _read(self, name: str) -> str:
        return (self.path / name).read_text()

    def _write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)


def lived(status: int) -> None:
    """Whoever ended with this status was to live, and did."""
    if status == -signal.SIGKILL:
        raise KilledAnother("a process was killed beside the victim")
    assert status == 0


def kill(group: MemoryCgroup) -> int:
    """One real kill in a cgroup with a limit below 100 MiB; its victim's pid."""
    hog = group.hog("eat=100M")
    assert hog.wait() == -signal.SIGKILL
    return hog.pid


@contextlib.contextmanager
def temporary(
    limit_bytes: int | None = None, *, group: bool = False, name: str | None = None
) -> Iterator[MemoryCgroup]:
    """A cgroup below the root that is removed at the end, with all that still runs in it.

    `group` sets `memory.oom.group`, which only v2 has. Raises `Unavailable`.
    """
    root = hierarchy()
    name = name or f"otel-oom-{os.getpid()}-{next(_numbers)}"
    try:
        if (root / "cgroup.controllers").exists():
            (root / "cgroup.subtree_control").write_text("+memory")
        made = _make(root / name, root, limit_bytes, group=group)
    except OSError as error:
        raise Unavailable(
            f"cannot make a memory cgroup ({error}): run as root where {root} is writable"
        ) from error
    try:
        yield made
    finally:
        made.remove()


@functools.cache
def hierarchy() -> pathlib.Path:
    """Where the memory controller is mounted: the v1 hierarchy, else the v2 one."""
    mounts = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    for _, where, kind, options, *_ in mounts:
        path = pathlib.Path(where)
        if kind == "cgroup" and "memory" in options.split(","):
            return path
        if kind == "cgroup2" and "memory" in (path / "cgroup.controllers").read_text().split():
            return path
    raise Unavailable(
        "no memory cgroup is mounted: mount cgroup2, or boot with cgroup_enable=memory"
    )


def unavailable() -> str | None:
    """Why no real kill can be made here, or None where one can."""
    try:
        with temporary():
            hog_binary()
    except Unavailable as error:
        return str(error)
    return None


def hog_binary() -> pathlib.Path:
    """The hog of hog.c."""
    try:
        return compiled.binary("hog")
    except compiled.Unavailable as error:
        raise Unavailable(str(error)) from error


def _make(
    path: pathlib.Path, root: pathlib.Path, limit_bytes: int | None, *, group: bool
) -> MemoryCgroup:
    path.mkdir()
    made = MemoryCgroup(path, root)
    try:
        if made.version == 1:
            # Before 5.11 a v1 parent's limit binds its children only if told to.
            with contextlib.suppress(OSError):
                (path / "memory.use_hierarchy").write_text("1")
        if limit_bytes is not None:
            made.set_limit(limit_bytes)
        if group:
            (path / "memory.oom.group").write_text("1")
    except OSError:
        path.rmdir()
        raise
    return made
