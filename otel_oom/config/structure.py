"""A tree of YAML to the dataclass of a component, with every problem at once.

cattrs walks the types; the hooks here and in `hooks` make it strict. What it may be told:

- a mapping, a list or a nested configuration that is null takes its default; a scalar that is
  null is an error, unless its type has None;
- a nested configuration keeps, of the default instance that its field has, what is not written;
- a dataclass may define `validate(self) -> Violations`, which is asked once all types are right:
  paths from that dataclass on, and messages that quote the YAML key and the relation that is
  broken;
- the key of a field whose name ends in `_` is without it (`types.key_of`).
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import operator
import types as python_types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

import cattrs
from cattrs import cols, gen

from otel_oom.config import hooks, problems, tree, types

T = TypeVar("T")

_CLASSES: dict[type[Any], hooks.Hook] = {
    str: hooks.string,
    types.Secret: hooks.secret,
    bool: hooks.boolean,
    int: hooks.integer,
    float: hooks.number,
    types.ComponentId: hooks.component_id,
    enum.Enum: hooks.enumeration,
}
_NAMES: dict[Any, hooks.Hook] = {
    types.Duration: hooks.duration,
    types.ByteSize: hooks.byte_size,
    Any: hooks.anything,
}


def structure(value: Any, cls: type[T], path: tree.Path, report: problems.Report) -> T | None:
    """The instance that `value` (of `tree.plain`) describes, or None with the problems reported.

    `path` is where the value stands in the configuration that `report` knows.
    """
    try:
        instance = _CONVERTER.structure(value, cls)
    except (cattrs.BaseValidationError, hooks.Invalid) as error:
        _tell(error, path, report)
        return None
    broken = list(_validate(instance))
    for below, message in broken:
        report.add((*path, *below), message)
    return None if broken else instance


def _tell(error: BaseException, path: tree.Path, report: problems.Report) -> None:
    """Report an error of cattrs or of a hook; groups are walked, their notes give the path."""
    if isinstance(error, cattrs.BaseValidationError):
        for inner in error.exceptions:
            _tell(inner, (*path, *_step(inner)), report)
    elif isinstance(error, cattrs.ForbiddenExtraKeysError):
        known = [types.key_of(field.name) for field in dataclasses.fields(error.cl)]
        for key in sorted(error.extra_fields):
            message = f"unknown key; known are {', '.join(known) or 'none'}"
            report.add((*path, key), message, word=key, known=known, key=True)
    elif isinstance(error, KeyError):
        report.add(path, "is required")
    elif isinstance(error, hooks.Invalid):
        report.add(path, str(error), word=error.word, known=error.known)
    else:
        report.add(path, f"cannot be used: {error}")


def _step(error: BaseException) -> tree.Path:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, cattrs.AttributeValidationNote):
            return (types.key_of(note.name),)
        if isinstance(note, cattrs.IterableValidationNote):
            return (note.index,)
    return ()


def _validate(value: Any) -> types.Violations:
    """What the `validate` methods in an instance say, innermost last."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        own = getattr(value, "validate", None)
        yield from own() if own else ()
        children: list[tuple[str | int, Any]] = [
            (types.key_of(field.name), getattr(value, field.name))
            for field in dataclasses.fields(value)
        ]
    elif isinstance(value, Mapping):
        children = list(value.items())
    else:
        children = list(enumerate(value)) if isinstance(value, list | tuple) else []
    for step, child in children:
        yield from (((step, *path), message) for path, message in _validate(child))


def _dataclass(cls: type[Any], converter: cattrs.Converter) -> hooks.Hook:
    overrides: dict[str, Any] = {
        field.name: gen.override(struct_hook=_over(_default(field), converter))
        for field in dataclasses.fields(cls)
        if dataclasses.is_dataclass(_default(field))
    }
    overrides |= {
        field.name: gen.override(rename=types.key_of(field.name))
        for field in dataclasses.fields(cls)
        if types.key_of(field.name) != field.name
    }
    inner = gen.make_dict_structure_fn(
        cls,
        converter,
        _cattrs_forbid_extra_keys=True,
        _cattrs_detailed_validation=True,
        **overrides,
    )
    return lambda value, _: inner(_collection(value, dict, "a mapping"), cls)


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _over(base: Any, converter: cattrs.Converter) -> hooks.Hook:
    """Structure a nested configuration, keeping of `base` what is not written."""

    def hook(value: Any, cls: Any) -> Any:
        value = value.value if isinstance(value, tree.Expanded) else value
        given = converter.structure(value, cls)
        return base if given is not None and value is None else _overlay(base, given, value)

    return hook


def _overlay(base: Any, given: Any, value: Any) -> Any:
    """`base` with what was written, level by level."""
    written = isinstance(value, dict) and dataclasses.is_dataclass(given)
    if not written or type(base) is not type(given):
        return given
    fields = {types.key_of(field.name): field.name for field in dataclasses.fields(given)}
    changes = {
        fields[key]: _overlay(getattr(base, fields[key]), getattr(given, fields[key]), below)
        for key, below in value.items()
    }
    return dataclasses.replace(base, **changes)


def _mapping(cls: Any, converter: cattrs.Converter) -> hooks.Hook:
    if typing.get_args(cls)[1:] in {(), (Any,)}:
        return lambda value, _: tree.typed(_collection(value, dict, "a mapping"))
    inner = cols.mapping_structure_factory(cls, converter)
    return lambda value, _: inner(_collection(value, dict, "a mapping"), cls)


def _sequence(cls: Any, converter: cattrs.Converter) -> hooks.Hook:
    build: Any = tuple if typing.get_origin(cls) is tuple else list
    if typing.get_args(cls)[:1] in {(), (Any,)}:
        return lambda value, _: build(tree.typed(_collection(value, list, "a list")))
    inner = cols.list_structure_factory(cls, converter)
    return lambda value, _: build(inner(_collection(value, list, "a list"), cls))


def _is_sequence(cls: Any) -> bool:
    return cols.is_sequence(cls) or (
        typing.get_origin(cls) is tuple and typing.get_args(cls)[1:] == (...,)
    )


def _collection(value: Any, cls: type[T], wanted: str) -> T:
    if isinstance(value, tree.Expanded):
        value = value.value
    if value is None:
        return cls()
    if isinstance(value, cls):
        return value
    raise hooks.wrong_type(value, wanted)


def _is_union(cls: Any) -> bool:
    return typing.get_origin(cls) in {typing.Union, python_types.UnionType}


def _is_literal(cls: Any) -> bool:
    origin: Any = typing.get_origin(cls)
    return origin is typing.Literal


def _union(cls: Any, converter: cattrs.Converter) -> hooks.Hook:
    """The first member that takes the value, strings last: an expansion has a string always."""
    members = sorted(typing.get_args(cls), key=_looseness)
    optional = type(None) in members
    members = [member for member in members if member is not type(None)]

    def hook(value: Any, _: Any) -> Any:
        if optional and tree.typed(value) is None:
            return None
        found: list[Exception] = []
        for member in members:
            try:
                return converter.structure(value, member)
            except (hooks.Invalid, cattrs.BaseValidationError) as error:
                found.append(error)
        raise found[0] if len(found) == 1 else _no_member(value, members)

    return hook


def _looseness(member: Any) -> int:
    return {float: 1, str: 2, types.Secret: 2}.get(member, 0)


def _no_member(value: Any, members: list[Any]) -> hooks.Invalid:
    names = [getattr(member, "__name__", str(member)) for member in members]
    return hooks.wrong_type(tree.typed(value), f"one of these types: {', '.join(names)}")


def _member_or(hook: hooks.Hook, value: Any, cls: type[Any]) -> Any:
    """A member of an enum, which may be a `str` too: cattrs asks for a class by its bases."""
    return hooks.enumeration(value, cls) if issubclass(cls, enum.Enum) else hook(value, cls)


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True)
    converter.register_structure_hook_factory(dataclasses.is_dataclass, _dataclass)
    converter.register_structure_hook_factory(cols.is_mapping, _mapping)
    converter.register_structure_hook_factory(_is_sequence, _sequence)
    converter.register_structure_hook_factory(_is_union, _union)
    converter.register_structure_hook_func(_is_literal, hooks.literal)
    for cls, hook in _CLASSES.items():
        converter.register_structure_hook(cls, functools.partial(_member_or, hook))
    for name, hook in _NAMES.items():
        converter.register_structure_hook_func(functools.partial(operator.is_, name), hook)
    return converter


_CONVERTER = _converter()
