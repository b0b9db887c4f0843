"""What the host and its operating system say about where we run.

Keys are the semantic conventions' (`service.*`, `host.*`, `os.*`). What cannot be found is
left out, never guessed.
"""

from __future__ import annotations

import shlex
import socket
from pathlib import Path
from platform import machine, release

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm32",
    "i686": "x86",
    "ppc64le": "ppc64",
    "s390x": "s390x",
}
"""`uname -m` to the values of `host.arch`; what is not here is passed on as it is."""


def host(root: Path) -> dict[str, str]:
    """`host.name`, `host.id` (machine-id(5)) and `host.arch` of the host whose `/` is `root`."""
    own = root == Path("/")
    name = socket.gethostname() if own else _first_line(root / "etc/hostname")
    machine_id = _first_line(root / "etc/machine-id")
    architecture = _ARCHITECTURES.get(machine(), machine())
    return _known(**{"host.name": name, "host.id": machine_id, "host.arch": architecture})


def operating_system(root: Path) -> dict[str, str]:
    """`os.type`, and from os-release(5) `os.name`, `os.version`, `os.description`."""
    fields = _os_release(root)
    pretty = fields.get("PRETTY_NAME", "Linux")
    return _known(
        **{
            "os.type": "linux",
            "os.name": fields.get("NAME", ""),
            "os.version": fields.get("VERSION_ID", ""),
            "os.description": f"{pretty} (Linux {release()})",
        }
    )


def _os_release(root: Path) -> dict[str, str]:
    for path in ("etc/os-release", "usr/lib/os-release"):
        if text := _read(root / path):
            pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
            return {key: _unquoted(value) for key, value in pairs if not key.startswith("#")}
    return {}


def _unquoted(value: str) -> str:
    """Undo the shell quoting of os-release(5); a value that is broken is kept as it is."""
    try:
        return "".join(shlex.split(value))
    except ValueError:
        return value


def _first_line(path: Path) -> str:
    return _read(path).partition("\n")[0].strip()


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _known(**fields: str) -> dict[str, str]:
    return {key: value for key, value in fields.items() if value}
