"""How much memory this process may have: its cgroup's limit, or the host's memory.

cgroup v2: Documentation/admin-guide/cgroup-v2.rst (`memory.max`); v1: cgroup-v1/memory.rst
(`memory.limit_in_bytes`). A limit may stand on any ancestor, so the smallest one counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def available_bytes(root: Path = Path("/")) -> int:
    """Return the smallest of the host's memory and the limits of our cgroup's ancestors."""
    return min([_total_bytes(root), *_limits(root)])


def _total_bytes(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    raise ValueError("/proc/meminfo has no MemTotal")


def _limits(root: Path) -> Iterator[int]:
    """Yield every limit on the way from our memory cgroup up to the root."""
    for line in (root / "proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _chain(root / "sys/fs/cgroup", path, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _chain(root / "sys/fs/cgroup/memory", path, "memory.limit_in_bytes")


def _chain(mount: Path, path: str, name: str) -> Iterator[int]:
    folder = mount / path.lstrip("/")
    for at in (folder, *folder.parents):
        text = _read(at / name)
        if text.isdecimal():
            yield int(text)
        if at == mount:
            return


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
