"""What the environment, the host and its operating system say about where we run.

Keys are the semantic conventions' (`service.*`, `host.*`, `os.*`). What cannot be found is
left out, never guessed.
"""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from platform import machine, release
from urllib.parse import unquote

_ARCHITECTURES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm32",
    "i686": "x86",
    "ppc64le": "ppc64",
    "s390x": "s390x",
}
"""`uname -m` to the values of `host.arch`; what is not here is passed on as it is."""

_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


def environment(env: Mapping[str, str], warn: Callable[[str], object]) -> dict[str, str]:
    """Read `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`, of which the latter wins.

    OpenTelemetry specification, resource/sdk.md and configuration/sdk-environment-variables.md.
    A malformed pair is left out, and `warn` is called with a text that names it.
    """
    found = {}
    for text in filter(str.strip, env.get("OTEL_RESOURCE_ATTRIBUTES", "").split(",")):
        try:
            key, value = _pair(text)
        except ValueError as error:
            warn(f"OTEL_RESOURCE_ATTRIBUTES: left out {text.strip()!r}: {error}")
        else:
            found[key] = value
    if name := env.get("OTEL_SERVICE_NAME"):
        found["service.name"] = name
    return found


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


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key:
        raise ValueError("it is not `key=value`")
    if _BROKEN_ESCAPE.search(text):
        raise ValueError("a `%` is not followed by two hexadecimal digits")
    try:
        return unquote(key, errors="strict"), unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise ValueError("its percent-encoded bytes are not UTF-8") from None


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
