"""What a name is, and the table of all attributes, which the modules beside this one fill."""

from __future__ import annotations

import dataclasses
import enum


class Stability(enum.StrEnum):
    """As the semantic conventions grade names."""

    DEVELOPMENT = "development"
    RELEASE_CANDIDATE = "release_candidate"
    STABLE = "stable"


@dataclasses.dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute. `type` is OTLP's: string, int, double, boolean, string[], map[]."""

    key: str
    type: str
    brief: str
    unit: str = ""
    stability: Stability = Stability.DEVELOPMENT
    conventional: bool = False

    def __str__(self) -> str:
        return self.key


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """A log record's `EventName`, or a span's name."""

    name: str
    brief: str


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    instrument: str
    unit: str
    brief: str


ATTRIBUTES: dict[str, Attribute] = {}
"""All attributes by key, in the order of the tables."""


def own(key: str, of: str, brief: str, unit: str = "") -> str:
    """A name of ours."""
    ATTRIBUTES[key] = Attribute(key, of, brief, unit)
    return key


def size(key: str, brief: str) -> str:
    """A name of ours, of a number of bytes."""
    return own(key, "int", brief, "By")


def conventional(key: str, of: str, brief: str, stability: Stability) -> str:
    """A name of the semantic conventions."""
    ATTRIBUTES[key] = Attribute(key, of, brief, "", stability, conventional=True)
    return key
