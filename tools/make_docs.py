"""Writes the generated pages of docs/ from the code; `--check` only compares.

A page per component (docs/components/<kind>/<type>.md) from its factory, its module's text,
its `Config` and its checks, with what lies beside it, written by hand: `<type>.example.yaml`,
a whole configuration that a test validates, and `<type>.notes.md`. And docs/telemetry.md.
Run by `make docs` and, with `--check`, by `make lint`.
"""

from __future__ import annotations

import ast
import inspect
import pathlib
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

# The checkout's own, whatever is installed:
import docs_options  # noqa: E402
import docs_telemetry  # noqa: E402
import docs_verifier  # noqa: E402

from otel_oom.pipeline.component import Factory, Kind  # noqa: E402
from otel_oom.service import registry, settings  # noqa: E402

COMPONENTS = ROOT / "docs" / "components"
GENERATED = "<!-- Made by `make docs` from the code: do not edit. -->"
_HEAD = ("option", "type", "default", "meaning")
_UNITS = "A duration is written as in Go (`250ms`, `1m30s`), a size as `512KiB` or `1MiB`."


def main() -> int:
    """Write the pages, or tell which are not what would be written."""
    docs = ROOT / "docs"
    pages = dict(component_pages())
    pages |= {docs / "telemetry.md": docs_telemetry.page()}
    pages |= {docs / "verifier.md": docs_verifier.page()}
    texts = {path: f"{GENERATED}\n\n{text.rstrip()}\n" for path, text in pages.items()}
    stale = [path for path, text in texts.items() if not _is(path, text)]
    orphans = [path for path in _generated() if path not in texts]
    if "--check" not in sys.argv:
        for path in stale:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts[path])
        for path in orphans:
            path.unlink()
        return 0
    for path in [*stale, *orphans]:
        print(f"{path.relative_to(ROOT)} is not what the code says: run `make docs`")
    return 1 if stale or orphans else 0


def component_pages() -> Iterator[tuple[pathlib.Path, str]]:
    """Every page below docs/components/, with its path."""
    factories = list(installed())
    for factory in factories:
        path = COMPONENTS / factory.kind / f"{factory.type_name}.md"
        yield path, component_page(factory, path)
    yield COMPONENTS / "service.md", service_page()
    yield COMPONENTS / "README.md", index_page(factories)


def installed() -> Iterator[Factory]:
    """The factories that pyproject.toml registers, in its order; aliases left out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    entries = [
        metadata.EntryPoint(name, value, group)
        for group, points in project["entry-points"].items()
        for name, value in points.items()
    ]
    found, seen = registry.Registry(entries), set()
    for entry in entries:
        if entry.value not in seen:  # else it is an alias, which comes after its component
            seen.add(entry.value)
            yield found.factory(Kind(entry.group.removeprefix("otel_oom.")), entry.name)


def component_page(factory: Factory, path: pathlib.Path) -> str:
    """The page of one component, in the order in which the collector's READMEs are."""
    example = path.with_suffix(".example.yaml").read_text()
    notes = path.with_suffix(".notes.md")
    aliases = ", ".join(f"`{alias}`" for alias in factory.aliases)
    parts = [
        f"# `{factory.type_name}`",
        f"Kind: {factory.kind}." + (f" Older names: {aliases}." if aliases else ""),
        stability_table(factory),
        module_text(factory),
        f"## Example\n\n```yaml\n{example.rstrip()}\n```",
        options_section(factory.config),
        checks_section(factory),
        notes.read_text().strip() if notes.exists() else "",
    ]
    return "\n\n".join(filter(None, parts))


def stability_table(factory: Factory) -> str:
    """Stability by signal, on the collector's ladder; an extension has no signals."""
    rows = [(signal.value, level.value) for signal, level in factory.signals.items()]
    return docs_telemetry.table(("signal", "stability"), rows) if rows else ""


def module_text(factory: Factory) -> str:
    """The docstring of the module that has the component."""
    return inspect.cleandoc(sys.modules[factory.create.__module__].__doc__ or "")


def options_section(config: type) -> str:
    """The table of options."""
    rows = [
        (f"`{name}`", kind, default, meaning)
        for name, kind, default, meaning in docs_options.options(config)
    ]
    return f"## Options\n\n{_UNITS}\n\n{docs_telemetry.table(_HEAD, rows)}"


def checks_section(factory: Factory) -> str:
    """What `otel-oom doctor` asks for the component, and what helps where it is missing."""
    if factory.doctor is None:
        return ""
    calls = [
        (node.lineno, str(node.args[0].value), _literal(node, "remedy"))
        for node in ast.walk(ast.parse(inspect.getsource(sys.modules[factory.doctor.__module__])))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "Check"
        and isinstance(node.args[0], ast.Constant)
    ]
    rows = [(name, remedy) for _, name, remedy in sorted(calls) if remedy]
    table = docs_telemetry.table(("check", "remedy"), rows)
    return f"## Checks\n\n`otel-oom doctor` looks at:\n\n{table}"


def service_page() -> str:
    """The options of the `service` section."""
    return f"# `service`\n\nWhat runs.\n\n{options_section(settings.Service)}"


def index_page(factories: list[Factory]) -> str:
    """The list of all components."""
    rows = [
        (
            f"[`{factory.type_name}`]({factory.kind}/{factory.type_name}.md)",
            factory.kind.value,
            ", ".join(f"{s.value}: {level.value}" for s, level in factory.signals.items()),
            module_text(factory).partition("\n\n")[0].replace("\n", " "),
        )
        for factory in factories
    ]
    text = "Every component that the agent brings; `otel-oom components` lists what is installed."
    table = docs_telemetry.table(("type", "kind", "stability", "what it does"), rows)
    return f"# Components\n\n{text}\n\n{table}\n\nAnd the section [`service`](service.md)."


def _literal(call: ast.Call, keyword: str) -> str:
    value = next((k.value for k in call.keywords if k.arg == keyword), None)
    return str(value.value) if isinstance(value, ast.Constant) else ""


def _is(path: pathlib.Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def _generated() -> list[pathlib.Path]:
    pages = (ROOT / "docs").rglob("*.md")
    return sorted(path for path in pages if path.read_text().startswith(GENERATED))


if __name__ == "__main__":
    raise SystemExit(main())
