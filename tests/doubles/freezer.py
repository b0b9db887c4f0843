"""Holds a process still with cgroup v1's freezer: what it is sent waits, SIGKILL too.

    with freezer.frozen(process.pid):
        process.kill()  # it is dying, and does not get on with it
        ...             # until here, or until the kernel marks it for memory, which thaws it

cgroup v2's own freezer lets a killed process go. The v1 controller can be mounted beside a v2
hierarchy. Needs root.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import pathlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator

_PATIENCE_S = 60.0
_POLL_S = 0.001
_numbers = itertools.count()


class Unavailable(Exception):
    """This kernel has no v1 freezer; the text says what would help."""


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """The process stands still inside. Raises `Unavailable`."""
    with _hierarchy() as root, _cgroup(root) as made:
        (made / "cgroup.procs").write_text(str(pid))
        state = made / "freezer.state"
        state.write_text("FROZEN")
        _wait(lambda: state.read_text() == "FROZEN\n", f"{made} to freeze")
        try:
            yield
        finally:
            state.write_text("THAWED")


@contextlib.contextmanager
def _hierarchy() -> Iterator[pathlib.Path]:
    """Where the freezer is mounted, or a mount of our own for the while."""
    for line in pathlib.Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind == "cgroup" and "freezer" in options.split(","):
            yield pathlib.Path(where)
            return
    with tempfile.TemporaryDirectory() as where:
        command = ["mount", "-t", "cgroup", "-o", "freezer", "freezer", where]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(
                f"needs cgroup v1's freezer ({done.stderr.strip()}): run as root on a kernel "
                "built with CONFIG_CGROUP_FREEZER and booted without cgroup_no_v1=freezer"
            )
        try:
            yield pathlib.Path(where)
        finally:
            subprocess.run(["umount", where], check=True)


@contextlib.contextmanager
def _cgroup(root: pathlib.Path) -> Iterator[pathlib.Path]:
    """A cgroup that is removed at the end; who is still inside goes to the root."""
    made = root / f"otel-oom-{os.getpid()}-{next(_numbers)}"
    made.mkdir()
    try:
        yield made
    finally:
        _wait(lambda: _is_removed(made, root), f"{made} to be left by all")


def _is_removed(made: pathlib.Path, root: pathlib.Path) -> bool:
    """One try; a cgroup is busy until what died in it is gone."""
    for pid in (made / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):
            (root / "cgroup.procs").write_text(pid)
    try:
        made.rmdir()
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {_PATIENCE_S:.0f} s for {what}")
        time.sleep(_POLL_S)
