"""Options of a component as rows of a table, read from its `Config` dataclass."""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import textwrap
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from otel_oom.config import render
from otel_oom.config.types import ByteSize, ComponentId, Duration, Secret, key_of

_WORDS: dict[Any, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    Duration: "duration",
    ByteSize: "size",
    Secret: "secret string",
    ComponentId: "id",
    Any: "value",
}
_REQUIRED = "**required**"
_NONE = "not set"


class Option(NamedTuple):
    """One row: the key from the component on, its type in a user's words, default, meaning."""

    name: str
    type: str
    default: str
    meaning: str


def options(config: type[Any], defaults: Any = None, prefix: str = "") -> Iterator[Option]:
    """Yield every option of a dataclass; those of a nested one follow it as `outer.inner`.

    `defaults`: the instance that an outer field has by default, else the class's own count.
    """
    hints, meanings = typing.get_type_hints(config), field_docs(config)
    for field in dataclasses.fields(config):
        hint, value = hints[field.name], _default(field, defaults)
        name = prefix + key_of(field.name)
        block, step = _block(hint)
        default = _default_text(value, hint, is_block=block is not None)
        yield Option(name, words(hint), default, meanings[field.name])
        if block:
            inner = value if dataclasses.is_dataclass(value) else None
            yield from options(block, inner, f"{name}{step}.")


def field_docs(config: type[Any]) -> dict[str, str]:
    """The text that follows each field of a dataclass, on one line; `KeyError` if one has none."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config))).body[0]
    assert isinstance(body, ast.ClassDef)
    docs = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            docs[statement.target.id] = " ".join(str(after.value.value).split())
    return docs


def words(hint: Any) -> str:
    """A type in the words of who writes YAML."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is Literal:
        return _one_of(arguments)
    if origin in {typing.Union, types.UnionType}:
        return _either([words(one) for one in arguments if one is not types.NoneType])
    if origin in {list, tuple}:
        return f"list of {_plural(words(arguments[0]))}"
    if origin in {dict, Mapping}:
        return f"map of {_plural(words(arguments[1]))}"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _one_of([member.value for member in hint])
    if dataclasses.is_dataclass(hint):
        return "block"
    raise TypeError(f"{hint} has no word for users yet: add it to tools/docs_options.py")


def _one_of(values: typing.Iterable[Any]) -> str:
    return "one of " + ", ".join(f"`{value}`" for value in values)


def _either(choices: list[str]) -> str:
    *first, last = choices
    return f"{', '.join(first)} or {last}" if first else last


def _plural(word: str) -> str:
    """`ids` of `id`; a choice stays as it is, without its `one of`."""
    choice = word.removeprefix("one of ")
    return choice if choice != word or " or " in word else f"{word}s"


def _default(field: dataclasses.Field[Any], defaults: Any) -> Any:
    if defaults is not None:
        return getattr(defaults, field.name)
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _default_text(value: Any, hint: Any, *, is_block: bool) -> str:
    """A default as a user would write it."""
    if value is dataclasses.MISSING:
        return _REQUIRED
    if value is None or value == "" or (is_block and dataclasses.is_dataclass(value)):
        return _NONE
    tree = render.to_tree(value, hint)
    if isinstance(tree, bool):
        tree = str(tree).lower()
    if isinstance(tree, dict):
        tree = f"{{{', '.join(f'{key}: {one}' for key, one in tree.items())}}}"
    if isinstance(tree, list):
        tree = f"[{', '.join(map(str, tree))}]"
    return f"`{tree}`"


def _block(hint: Any) -> tuple[type[Any] | None, str]:
    """The dataclass that is nested in a type, and what its keys need before the dot."""
    if dataclasses.is_dataclass(hint) and hint is not ComponentId:
        return typing.cast("type[Any]", hint), ""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return next((_block(one) for one in arguments if _block(one)[0]), (None, ""))
    if origin in {list, tuple}:
        return _block(arguments[0])[0], "[]"
    if origin is Mapping:
        return _block(arguments[1])[0], ".ID"
    return None, ""
