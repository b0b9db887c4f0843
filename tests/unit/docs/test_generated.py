"""The generated pages say what the code says, and the generator sees all that the code has."""

import dataclasses
import importlib.util
import pathlib
import subprocess
import sys

import pytest

from otel_oom.config import render

ROOT = pathlib.Path(__file__).parents[3]
TOOLS = ROOT / "tools"


def _tool(name):
    """A module of tools/, which is no package; what it imports lies beside it."""
    before = sys.path.copy()
    sys.path.insert(0, str(TOOLS))
    try:
        spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before  # the tool puts the checkout first
    return module


docs_options = _tool("docs_options")
make_docs = _tool("make_docs")
FACTORIES = list(make_docs.installed())


def test_the_pages_are_up_to_date():
    command = [sys.executable, TOOLS / "make_docs.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


def test_check_names_the_page_that_is_not(tmp_path, monkeypatch, capsys):
    """A stale page and a page of no component are both told, and nothing is written."""
    stale, orphan = tmp_path / "docs" / "telemetry.md", tmp_path / "docs" / "gone.md"
    stale.parent.mkdir()
    stale.write_text("old")
    orphan.write_text(make_docs.GENERATED)
    monkeypatch.setattr(make_docs, "ROOT", tmp_path)
    monkeypatch.setattr(make_docs, "component_pages", dict)
    monkeypatch.setattr(sys, "argv", ["make_docs.py", "--check"])

    assert make_docs.main() == 1
    told = capsys.readouterr().out.splitlines()
    pages = ["docs/telemetry.md", "docs/verifier.md", "docs/gone.md"]
    assert [line.partition(" ")[0] for line in told] == pages
    assert stale.read_text() == "old"


def _keys(tree, options, prefix=""):
    """Every key of what `print-config` shows, nested ones as `outer.inner`.

    The keys of a map are the user's own.
    """
    for key, value in tree.items():
        yield prefix + key
        if isinstance(value, dict) and not options[prefix + key].type.startswith("map "):
            yield from _keys(value, options, f"{prefix}{key}.")


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda factory: factory.type_name)
def test_the_table_has_every_option_and_its_default(factory):
    """Held against another way to the same facts: what `print-config` shows."""
    required = {
        field.name: "x"
        for field in dataclasses.fields(factory.config)
        if field.default is field.default_factory is dataclasses.MISSING
    }
    shown = render.to_tree(factory.config(**required))
    options = {option.name: option for option in docs_options.options(factory.config)}

    assert set(_keys(shown, options)) <= set(options)
    for name, value in shown.items():
        if isinstance(value, str) and value:
            wanted = "**required**" if name in required else f"`{value}`"
            assert options[name].default == wanted
    assert all(option.meaning for option in options.values())


def test_a_field_without_a_text_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "undocumented.py").write_text(
        "import dataclasses\n\n@dataclasses.dataclass\nclass Config:\n    size: int = 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    import undocumented

    with pytest.raises(KeyError, match="size"):
        list(docs_options.options(undocumented.Config))
