"""`${env:NAME}`, `${env:NAME:-default}`, `${file:PATH}` and `${yaml:TEXT}` in values.

As the collector's confmap does it:

- `${NAME}` is `${env:NAME}`; `$NAME` is left alone; `$$` is a dollar sign.
- The default is for a variable that is not set; one that is set and empty is empty.
- A variable that is not set and has no default is empty, with a warning. Empty is `""` where
  the option is a string and null everywhere else.
- A reference that is the whole value is read as YAML, so that it may be a number, a list or a
  mapping; an option that is a string still gets the text as it was. Text that is no YAML is
  a string. Within a longer value a reference gives text.
- What a reference brings in may hold references, at most 100 for one value.

Where we differ: the line break that ends a file is cut off, because a secret in a file mostly
has one; and a `${` that is never closed is an error instead of a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from otel_oom.config import build, limits, load, problems, tree

_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):(.*)", re.DOTALL)
_TOKEN = re.compile(r"\$\$|\$\{|[{}]")


class Expander:
    """Follows the references of one configuration; `warnings` names the unset variables."""

    def __init__(self, env: Mapping[str, str], budget: limits.Budget) -> None:
        self._env = env
        self._budget = budget
        self.problems: list[problems.Problem] = []
        self.warnings: list[problems.Problem] = []

    def expand(self, node: tree.Node, path: tree.Path = ()) -> tree.Node:
        """The same tree with every reference followed; what fails is a null and a problem."""
        if isinstance(node.value, dict):
            children = {key: self.expand(child, (*path, key)) for key, child in node.value.items()}
            return tree.Node(children, node.position, node.keys)
        if isinstance(node.value, list):
            items = [self.expand(item, (*path, i)) for i, item in enumerate(node.value)]
            return tree.Node(items, node.position)
        return self._scalar(node, path)

    def _scalar(self, node: tree.Node, path: tree.Path) -> tree.Node:
        if not isinstance(node.value, str) or "$" not in node.value:
            return node
        value = _Value(self._env, self._budget, node.position, path, self.warnings)
        try:
            return value.node(node, len(path))
        except _Failed as failed:
            self.problems.append(problems.Problem(path, str(failed), node.position))
            return tree.Node(None, node.position)


class _Failed(Exception):
    """Why a reference cannot be followed."""


class _Value:
    """The references that are followed on behalf of one value of the configuration."""

    def __init__(
        self,
        env: Mapping[str, str],
        budget: limits.Budget,
        position: tree.Position,
        path: tree.Path,
        warnings: list[problems.Problem],
    ) -> None:
        self._env = env
        self._budget = budget
        self._position = position
        self._path = path
        self._warnings = warnings
        self._left = limits.MAX_REFERENCES

    def node(self, node: tree.Node, depth: int) -> tree.Node:
        """A node with its references followed, whatever type it has by then."""
        limits.check_depth(depth, node.position)
        if isinstance(node.value, dict):
            values = {key: self.node(child, depth + 1) for key, child in node.value.items()}
            return tree.Node(values, node.position, node.keys, node.original)
        if isinstance(node.value, list):
            items = [self.node(item, depth + 1) for item in node.value]
            return tree.Node(items, node.position, original=node.original)
        if not isinstance(node.value, str) or "$" not in node.value:
            return node
        parts = list(_parts(node.value))
        references = [text for is_reference, text in parts if is_reference]
        if len(references) == 1 and len(parts) == 1:
            return self._typed(references[0], node, depth)
        return tree.Node(self._text(node.value), node.position)

    def _typed(self, body: str, node: tree.Node, depth: int) -> tree.Node:
        """A reference that is a whole value: read as YAML, with the text kept beside it."""
        raw, source = self._retrieve(body)
        try:
            read = load.parse(raw.encode(), self._place(source), self._budget)
        except problems.InvalidConfig:
            self._budget.check(node.position)
            return self.node(tree.Node(raw, node.position), depth)
        if isinstance(read.value, str):
            return self.node(tree.Node(raw, read.position), depth)
        original = None if "${" in raw else raw.replace("$$", "$")
        return self.node(tree.Node(read.value, read.position, read.keys, original), depth)

    def _place(self, source: str) -> build.Place:
        if source:
            return lambda line, column: tree.Position(source, line, column)
        return lambda _line, _column: self._position

    def _text(self, text: str) -> str:
        """A text with its references followed and `$$` made `$`."""
        return "".join(
            self._text(self._retrieve(piece)[0]) if is_reference else piece.replace("$$", "$")
            for is_reference, piece in _parts(text)
        )

    def _retrieve(self, body: str) -> tuple[str, str]:
        """What a reference stands for, not yet expanded itself, and the file it came from."""
        self._left -= 1
        if self._left < 0:
            raise _Failed(
                f"more than {limits.MAX_REFERENCES} references for one value; "
                "does one lead back to itself?"
            )
        inner = "".join(
            self._text(self._retrieve(piece)[0]).replace("$", "$$") if is_reference else piece
            for is_reference, piece in _parts(body)
        )
        match = _SCHEME.fullmatch(inner)
        scheme, rest = (match[1], match[2]) if match else ("env", inner)
        text = self._follow(scheme, rest)
        self._budget.spend_expanded(text, self._position)
        return text, rest if scheme == "file" else ""

    def _follow(self, scheme: str, rest: str) -> str:
        if scheme == "env":
            return self._variable(rest)
        if scheme == "file":
            return _file(rest)
        if scheme == "yaml":
            return rest
        raise _Failed(
            f"the scheme {problems.quoted(scheme)} is not supported; use `env`, `file` or `yaml`, "
            "or `$${` for a text that is no reference"
        )

    def _variable(self, rest: str) -> str:
        name, has_default, default = rest.partition(":-")
        if not _NAME.fullmatch(name):
            raise _Failed(
                f"the environment variable {problems.quoted(name)} has no valid name: letters, "
                "digits and underscores, not starting with a digit"
            )
        if name in self._env:
            return _checked(self._env[name], f"the environment variable `{name}`")
        if not has_default:
            message = f"the environment variable `{name}` is not set; its value is taken as empty"
            self._warnings.append(problems.Problem(self._path, message, self._position))
        return default


def _file(path: str) -> str:
    try:
        raw = load.read(path)
    except problems.InvalidConfig as error:
        raise _Failed(f"the file {problems.quoted(path)} {error.problems[0].message}") from error
    if len(raw) > limits.MAX_TEXT_BYTES:
        raise _Failed(f"the file {problems.quoted(path)} is larger than 1 MiB")
    text = raw.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    checked = _checked(text, f"the file {problems.quoted(path)}")
    return checked.removesuffix("\n").removesuffix("\r")


def _checked(text: str, owner: str) -> str:
    """The text, unless bytes that are no UTF-8 were smuggled into it as surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _Failed(f"{owner} is not UTF-8") from None
    return text


def _parts(text: str) -> Iterator[tuple[bool, str]]:
    """The pieces of a text in order, each with whether it is the inside of a `${…}`.

    Braces inside a reference count, so that `${env:X:-{}}` has the default `{}`.
    """
    depth = start = 0
    for token in _TOKEN.finditer(text):
        if token[0] == "${" or (token[0] == "{" and depth):
            if depth == 0:
                yield from [(False, text[start : token.start()])] if token.start() > start else []
                start = token.end()
            depth += 1
        elif token[0] == "}" and depth:
            depth -= 1
            if depth == 0:
                yield True, text[start : token.start()]
                start = token.end()
    if depth:
        raise _Failed("a `${` is never closed; close it, or write `$${` for a text")
    if text[start:]:
        yield False, text[start:]
