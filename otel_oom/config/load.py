"""A source's bytes to the nodes of its one YAML document, or to an error that says where."""

from __future__ import annotations

import pathlib
import re

import yaml

from otel_oom.config import build, limits, problems, tree

_UNPRINTABLE = re.compile(
    "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_TAG_DIRECTIVE = re.compile(r"^%TAG", re.MULTILINE)
_TAB_INDENT = re.compile(r" *\t")
_HINTS = {
    "mapping values are not allowed": "a line above is indented wrongly, or a text with `: ` "
    "needs quotes",
    "cannot start any token": "quote the value",
    "did not find expected key": "check the indentation, and that every quote is closed",
    "did not find expected '-' indicator": "check the indentation of the list",
    "could not find expected ':'": "write `key: value`, with a space after the colon",
    "did not find expected ',' or": "close the bracket, or separate the items by commas",
    "found unexpected end of stream": "close the quote",
    "found undefined alias": "define the anchor `&name` above, or quote the value",
}


def read(path: str) -> bytes:
    """The bytes of a source file, at most `limits.MAX_TEXT_BYTES` and one more.

    `InvalidConfig` names the file and the system's reason when it cannot be read.
    """
    try:
        with pathlib.Path(path).open("rb") as file:
            return file.read(limits.MAX_TEXT_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise problems.fail(f"cannot be read: {reason}", tree.Position(path)) from error


def load(text: bytes, source: str, budget: limits.Budget) -> tree.Node:
    """The mapping that a source holds; an empty source is an empty mapping.

    `InvalidConfig` names every duplicate key, tag and odd key, or else the first thing that
    makes the text no YAML mapping.
    """
    node = parse(text, lambda line, column: tree.Position(source, line, column), budget)
    if node.value is None:
        return tree.Node({}, node.position)
    if not isinstance(node.value, dict):
        found = problems.kind(node.value)
        raise problems.fail(
            f"the top level must be a mapping such as `receivers:`, not {found}", node.position
        )
    return node


def parse(text: bytes, place: build.Place, budget: limits.Budget) -> tree.Node:
    """The one value that a YAML text holds, of any type; `InvalidConfig` otherwise."""
    decoded = _decode(text, place)
    try:
        return build.Builder(decoded, place, budget).document()
    except yaml.YAMLError as error:
        raise _syntax_error(error, decoded, place) from error


def _decode(text: bytes, place: build.Place) -> str:
    limits.check_text(text, place(1, 1))
    try:
        decoded = text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = text[: error.start].decode("utf-8-sig", "replace")
        raise problems.fail("not UTF-8 here; save the file as UTF-8", _end(before, place)) from None
    if found := _UNPRINTABLE.search(decoded):
        raise problems.fail(
            f"the character U+{ord(found[0]):04X} is not allowed in YAML; delete it, or write it "
            "as an escape in double quotes",
            _end(decoded[: found.start()], place),
        )
    if found := _TAG_DIRECTIVE.search(decoded):
        raise problems.fail(
            "tags are not supported; delete it", _end(decoded[: found.start()], place)
        )
    return decoded


def _end(text: str, place: build.Place) -> tree.Position:
    """The position that follows a text."""
    return place(text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1)


def _syntax_error(error: yaml.YAMLError, text: str, place: build.Place) -> problems.InvalidConfig:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        return problems.fail(f"no YAML: {error}", place(1, 1))
    position = place(mark.line + 1, mark.column + 1)
    lines = text.splitlines()
    if mark.line < len(lines) and _TAB_INDENT.match(lines[mark.line]):
        return problems.fail("a tab in the indentation; YAML takes spaces only", position)
    said = str(getattr(error, "problem", "") or error)
    hint = next((hint for start, hint in _HINTS.items() if start in said), "check the syntax")
    return problems.fail(f"no YAML: {said}; {hint}", position)
