"""The table of mounts of the host whose /proc and /sys are below a root (proc(5))."""

from __future__ import annotations

import pathlib
import re
from typing import NamedTuple

_OCTAL = re.compile(r"\\([0-7]{3})")
_MINOR_BITS = 20


class Mount(NamedTuple):
    """One line: what, where (as this process sees it), which filesystem, how."""

    source: str
    point: str
    kind: str
    options: list[str]


def read(root: pathlib.Path) -> list[Mount]:
    """Every mount in the order in which they were made; empty if there is no table."""
    try:
        text = (root / "proc/self/mounts").read_bytes().decode("utf-8", "surrogateescape")
    except OSError:
        return []
    return [_mount(root, line) for line in text.split("\n") if line]


def below(root: pathlib.Path, path: str) -> str:
    """A path as we see it: a mounted host tree shows its mounts with our prefix already."""
    prefix = str(root).rstrip("/")
    return path if f"{path}/".startswith(f"{prefix}/") else prefix + path


def _mount(root: pathlib.Path, line: str) -> Mount:
    source, point, kind, options, *_ = [*map(_unescaped, line.split(" ")), "", "", "", ""]
    return Mount(source, below(root, point), kind, options.split(","))


def _unescaped(field: str) -> str:
    """A field of the table: space, tab, newline and backslash are octal (fstab(5))."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), field)


def filesystem_types(root: pathlib.Path) -> dict[int, str]:
    """The type of each mounted filesystem by its device (the kernel's dev_t), from mountinfo."""
    for process in ("1", "self"):  # the host's, else what is mounted here
        try:
            text = (root / f"proc/{process}/mountinfo").read_text(errors="backslashreplace")
        except OSError:
            continue
        return dict(filter(None, map(_filesystem, text.splitlines())))
    return {}


def _filesystem(line: str) -> tuple[int, str] | None:
    """Device and type of `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS... - TYPE SOURCE OPTIONS`."""
    before, _, after = line.partition(" - ")
    fields = before.split(" ")
    major, _, minor = fields[2].partition(":") if len(fields) > 2 else ("", "", "")  # noqa: PLR2004
    if not major.isdecimal() or not minor.isdecimal() or not after:
        return None
    return int(major) << _MINOR_BITS | int(minor), after.split(" ")[0]
