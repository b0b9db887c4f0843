"""An image's reference in its parts: name, tag, digest (distribution/reference, as Docker's).

A name may hold a port before its first slash; what is no reference has no parts.
"""

from __future__ import annotations

import functools
import re
from typing import NamedTuple

_MOST_KEPT = 1024
_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_DOMAIN = r"(?:[A-Za-z0-9][A-Za-z0-9.-]*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>\w[\w.-]{0,127}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?",
    re.ASCII,
)
_PULLABLE = "docker-pullable://"
_HUB, _LIBRARY = "docker.io", "library"


class Image(NamedTuple):
    """The parts; what is not there is empty."""

    name: str = ""
    tag: str = ""
    digest: str = ""

    @property
    def version(self) -> str:
        """`service.version` by the conventions: `tag@digest`, or what there is of it."""
        return "@".join(filter(None, (self.tag, self.digest)))


@functools.lru_cache(_MOST_KEPT)
def parse(text: str) -> Image:
    """The image of a container's specification."""
    found = _REFERENCE.fullmatch(text)
    return Image(found["name"], found["tag"] or "", found["digest"] or "") if found else Image()


@functools.lru_cache(_MOST_KEPT)
def repo_digest(image_id: str) -> str:
    """The `imageID` of a status as `registry/name@digest`; nothing if it names no repository."""
    found = parse(image_id.removeprefix(_PULLABLE))
    return f"{_normal(found.name)}@{found.digest}" if found.name and found.digest else ""


def _normal(name: str) -> str:
    """With the registry that a bare name means."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return name if first != "index.docker.io" else f"{_HUB}/{rest}"
    return f"{_HUB}/{name}" if slash else f"{_HUB}/{_LIBRARY}/{name}"
