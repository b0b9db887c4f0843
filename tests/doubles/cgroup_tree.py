"""One path in every mounted cgroup hierarchy at once, v1's many and v2's one: made and removed."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import time

_REMOVAL_S = 10.0
_POLL_S = 0.01


def hierarchies() -> list[pathlib.Path]:
    """Where cgroups of either version are mounted."""
    mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    fields = [line.split() for line in mounts]
    return [pathlib.Path(where) for _, where, kind, *_ in fields if kind in {"cgroup", "cgroup2"}]


def make(path: str) -> None:
    """Make it below every hierarchy's root, able to hold processes at once.

    A new v1 cpuset takes none before it has processors and memory nodes.
    """
    for root in hierarchies():
        made = root / path.lstrip("/")
        made.mkdir(parents=True, exist_ok=True)
        if (made / "cpuset.cpus").exists():
            for name in ("cpuset.cpus", "cpuset.mems"):
                (made / name).write_text((made.parent / name).read_text())


def remove(path: str) -> None:
    """Kill all that runs in it or below, and remove it; raises TimeoutError."""
    for root in hierarchies():
        top = root / path.lstrip("/")
        deadline = time.monotonic() + _REMOVAL_S
        while top.exists():
            _kill_and_remove(top)
            if time.monotonic() > deadline:
                raise TimeoutError(f"{top} cannot be removed")
            time.sleep(_POLL_S)


def remove_empty(path: str, up_to: str) -> None:
    """Remove it and its parents below `up_to`, included, as far as they hold nothing."""
    above = pathlib.PurePath(up_to).parent
    for root in hierarchies():
        at = pathlib.PurePath(path)
        while at != above:
            with contextlib.suppress(OSError):
                (root / str(at).lstrip("/")).rmdir()
            at = at.parent


def _kill_and_remove(top: pathlib.Path) -> None:
    """One try, deepest first; a cgroup is busy until its killed processes are gone."""
    for folder, _, _ in os.walk(top, topdown=False):
        with contextlib.suppress(OSError):
            for pid in (pathlib.Path(folder) / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError):
            pathlib.Path(folder).rmdir()
