"""Finds components by entry point, and imports only those that a configuration names.

Another package adds a component the way ours do: an entry point in the group
`otel_oom.receivers`, `.processors`, `.exporters` or `.extensions`, named as the component's
type, whose object is a `component.Factory`. An alias is one more entry point with the same
object: its name differs from the factory's `type_name`.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterable
from importlib import metadata

from otel_oom import errors
from otel_oom.pipeline import component

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """A component that is installed; `factory` is None and `error` says why if it is broken."""

    kind: component.Kind
    name: str
    distribution: str
    factory: component.Factory | None
    error: str = ""


class Registry:
    """The installed components, by kind and type."""

    def __init__(self, entry_points: Iterable[metadata.EntryPoint] | None = None) -> None:
        """Read the entry points of `entry_points`, or of every installed distribution."""
        found = _installed() if entry_points is None else entry_points
        self._entries: dict[tuple[component.Kind, str], list[metadata.EntryPoint]] = {}
        for entry in found:
            kind = component.Kind(entry.group.removeprefix("otel_oom."))
            entries = self._entries.setdefault((kind, entry.name), [])
            if all(entry.value != other.value for other in entries):
                entries.append(entry)
        self._factories: dict[tuple[component.Kind, str], component.Factory] = {}

    def types(self, kind: component.Kind) -> list[str]:
        """The types, and their aliases, that a kind has; nothing is imported."""
        return sorted(name for entry_kind, name in self._entries if entry_kind is kind)

    def factory(self, kind: component.Kind, type_name: str) -> component.Factory:
        """The factory of one of `types(kind)`, importing its module.

        `ComponentError` names the distribution whose entry point is broken.
        """
        key = (kind, type_name)
        if key not in self._factories:
            self._factories[key] = _load(kind, self._entries[key])
            self._hint_at_alias(self._factories[key], type_name)
        return self._factories[key]

    def reference(self, thing: object) -> str | None:
        """`module:attribute` of a factory that `factory` gave, None for anything else."""
        keys = (key for key, factory in self._factories.items() if factory is thing)
        return next((self._entries[key][0].value for key in keys), None)

    def components(self) -> list[Listed]:
        """Every installed component, aliases left out; this imports all of them."""
        listed = [self._list(kind, name) for kind, name in sorted(self._entries)]
        return [
            each for each in listed if each.factory is None or each.factory.type_name == each.name
        ]

    def _list(self, kind: component.Kind, name: str) -> Listed:
        distribution = _distribution(self._entries[kind, name][0])
        try:
            return Listed(kind, name, distribution, _load(kind, self._entries[kind, name]))
        except errors.ComponentError as error:
            return Listed(kind, name, distribution, None, str(error))

    def _hint_at_alias(self, factory: component.Factory, name: str) -> None:
        if name != factory.type_name:
            _log.warning(
                "`%s` is an older name of `%s`; please use the new one", name, factory.type_name
            )


def _installed() -> list[metadata.EntryPoint]:
    groups = [f"otel_oom.{kind}" for kind in component.Kind]
    return [entry for group in groups for entry in metadata.entry_points(group=group)]


def _load(kind: component.Kind, entries: list[metadata.EntryPoint]) -> component.Factory:
    entry = entries[0]
    if len(entries) > 1:
        owners = " and ".join(_distribution(other) for other in entries)
        raise errors.ComponentError(
            f"`{entry.name}` is provided by {owners}; uninstall one of them"
        )
    try:
        factory = entry.load()
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise errors.ComponentError(f"{_origin(entry)} cannot be imported: {cause}") from error
    if not isinstance(factory, component.Factory):
        raise errors.ComponentError(f"{_origin(entry)} is no component.Factory")
    if factory.kind is not kind or entry.name not in {factory.type_name, *factory.aliases}:
        raise errors.ComponentError(
            f"{_origin(entry)} is registered as `{entry.name}` of the {kind}, but is "
            f"`{factory.type_name}` of the {factory.kind}"
        )
    return factory


def _origin(entry: metadata.EntryPoint) -> str:
    return f"`{entry.value}` of the distribution {_distribution(entry)}"


def _distribution(entry: metadata.EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "(unknown)"
