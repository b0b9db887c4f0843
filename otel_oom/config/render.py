"""A configuration as YAML again, for `print-config`: what `load` reads back as the same.

Secrets are `[REDACTED]` unless asked for, durations are Go's, sizes have their unit, and a
dollar sign is `$$` so that it is not taken for a reference.
"""

from __future__ import annotations

import dataclasses
import enum
import re
import types as python_types
import typing
from collections.abc import Mapping
from typing import Any

import yaml

from otel_oom.config import types, units

REDACTED = "[REDACTED]"

_WIDTH_CHARS = 1 << 20  # no folding: a folded text is hard to copy


def to_yaml(tree: Any) -> str:
    """A tree of dictionaries, lists and scalars as YAML text."""
    text: str = yaml.dump(
        tree,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=False,
        width=_WIDTH_CHARS,
    )
    return text


def to_tree(value: Any, hint: Any = None, *, reveal: bool = False) -> Any:
    """An instance as what `to_yaml` writes; `hint` is its type where the value does not tell.

    `reveal` shows the secrets.
    """
    if isinstance(value, types.Secret) and not reveal:
        return REDACTED
    if hint is types.Duration or hint is types.ByteSize:
        return _unit_text(value, hint)
    if dataclasses.is_dataclass(value) and not isinstance(value, types.ComponentId):
        return _fields(value, reveal=reveal)
    if isinstance(value, Mapping):
        below = _argument(hint, -1)
        return {_text(k): to_tree(v, below, reveal=reveal) for k, v in value.items()}
    if isinstance(value, list | tuple):
        below = _argument(hint, 0)
        return [to_tree(item, below, reveal=reveal) for item in value]
    return _scalar(value)


def _fields(instance: Any, *, reveal: bool) -> dict[str, Any]:
    hints = typing.get_type_hints(type(instance))
    return {
        types.key_of(field.name): to_tree(
            value := getattr(instance, field.name), _member(hints[field.name], value), reveal=reveal
        )
        for field in dataclasses.fields(instance)
        if field.init
    }


def _member(hint: Any, value: Any) -> Any:
    """The member of a union that a value has; others are their own."""
    if typing.get_origin(hint) not in {typing.Union, python_types.UnionType}:
        return hint
    members = [member for member in typing.get_args(hint) if member is not type(None)]
    if value is None:
        return None
    collections = isinstance(value, Mapping | list | tuple)
    fitting = [member for member in members if bool(typing.get_args(member)) == collections]
    return next((m for m in fitting if _is_runtime_type(m, value)), next(iter(fitting), None))


def _is_runtime_type(hint: Any, value: Any) -> bool:
    runtime = {types.Duration: float, types.ByteSize: int}.get(
        hint, typing.get_origin(hint) or hint
    )
    return isinstance(runtime, type) and type(value) is runtime


def _argument(hint: Any, index: int) -> Any:
    arguments = typing.get_args(hint)
    return arguments[index] if arguments else None


def _unit_text(value: Any, hint: Any) -> Any:
    if value is None:
        return None
    return units.duration_text(value) if hint is types.Duration else units.size_text(value)


def _text(key: Any) -> str:
    return str(_scalar(key)) if isinstance(key, enum.Enum) else str(key)


def _scalar(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        value = value.value
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value).replace("$", "$$")


class _Dumper(yaml.CSafeDumper):
    """Quotes what YAML 1.1 or the loader's YAML 1.2 would read as something else than a string."""


_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+)\Z"), list("-+0123456789")
)
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z"),
    list("-+.0123456789"),
)
