"""What is wrong with a configuration: all of it at once, each with its place and a suggestion."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from otel_oom import errors
from otel_oom.config import tree

MAX_PROBLEMS = 100
"""How many problems are told in full; a file that is no config would give thousands."""

_MAX_WORD_CHARS = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong (or, as a warning, odd); `str()` is one line for a person."""

    path: tree.Path
    message: str
    position: tree.Position | None = None
    suggestion: str = ""

    def __str__(self) -> str:
        place = " ".join(str(part) for part in (self.position, path_text(self.path)) if part)
        hint = f" (did you mean `{self.suggestion}`?)" if self.suggestion else ""
        return f"{place}: {self.message}{hint}" if place else f"{self.message}{hint}"


class InvalidConfig(errors.ConfigError):
    """The configuration has problems; `problems` are those that are told in full, in order."""

    def __init__(self, problems: Iterable[Problem], *, more: int = 0) -> None:
        """`more` counts the problems beyond `MAX_PROBLEMS`."""
        self.problems = tuple(sorted(problems, key=_order))
        self.more = more
        tail = [f"and {more} more problems"] if more else []
        super().__init__("\n".join([*map(str, self.problems), *tail]))


class Report:
    """Collects the problems and warnings of one configuration, finding the place of each."""

    def __init__(self, root: tree.Node) -> None:
        """`root` is the configuration that the paths of problems are paths of."""
        self._root = root
        self._problems: list[Problem] = []
        self._more = 0
        self._told: set[tree.Path] = set()
        self.warnings: list[Problem] = []

    def add(
        self,
        path: tree.Path,
        message: str,
        *,
        word: str = "",
        known: Iterable[str] = (),
        key: bool = False,
    ) -> None:
        """Note a problem; the suggestion is the one of `known` that is nearest to `word`.

        `key` says that the key is wrong rather than its value.
        """
        if path in self._told:
            return
        if len(self._problems) >= MAX_PROBLEMS:
            self._more += 1
            return
        position = tree.locate(self._root, path, key=key)
        self._problems.append(Problem(path, message, position, nearest(word, known)))

    def include(self, found: Iterable[Problem]) -> None:
        """Take over earlier problems; what follows from them, at the same paths, is not told."""
        for problem in found:
            self._told.add(problem.path)
            if len(self._problems) < MAX_PROBLEMS:
                self._problems.append(problem)
            else:
                self._more += 1

    def warn(self, path: tree.Path, message: str) -> None:
        """Note something that is odd but can be run."""
        self.warnings.append(Problem(path, message, tree.locate(self._root, path, key=True)))

    def check(self) -> None:
        """Raise `InvalidConfig` if there is any problem."""
        if self._problems:
            raise InvalidConfig(self._problems, more=self._more)


def fail(message: str, position: tree.Position, path: tree.Path = ()) -> InvalidConfig:
    """An error of one problem, for what makes going on senseless."""
    return InvalidConfig([Problem(path, message, position)])


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that a misspelt one most likely means, or nothing."""
    if not word or len(word) > _MAX_WORD_CHARS:
        return ""
    import difflib  # noqa: PLC0415  # the running agent never needs it

    return next(iter(difflib.get_close_matches(word, list(known), n=1)), "")


def path_text(path: tree.Path) -> str:
    """`service.pipelines.logs.receivers[0]`."""
    steps = (
        f"[{step}]" if isinstance(step, int) else f".{quoted(step, bare=True)}" for step in path
    )
    return "".join(steps).removeprefix(".")


def quoted(text: str, *, bare: bool = False) -> str:
    """A piece of the configuration as a message shows it: short, and safe on a terminal."""
    shown = text if len(text) <= _MAX_WORD_CHARS else text[:_MAX_WORD_CHARS] + "…"
    if not shown.isprintable():
        return repr(shown)
    return shown if bare else f"`{shown}`"


def kind(value: object) -> str:
    """What a message calls the type of a value."""
    if value is None:
        return "empty"
    names = {dict: "a mapping", list: "a list", str: "a string", bool: "a boolean"}
    named = next((name for type_, name in names.items() if isinstance(value, type_)), "")
    return named or ("an integer" if isinstance(value, int) else "a number")


def _order(problem: Problem) -> tuple[tree.Position, str]:
    return problem.position or tree.Position(""), path_text(problem.path)
