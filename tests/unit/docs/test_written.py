"""What people wrote is true where a machine can tell: links, names, verbs, examples, output."""

import pathlib
import re
import subprocess
import sys

import click
import pytest
import yaml

from otel_oom import cli, semconv
from otel_oom.config import problems
from otel_oom.receivers.storage.config import OPERATIONS
from otel_oom.service import config as configs

ROOT = pathlib.Path(__file__).parents[3]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "changelog.d").glob("*.md")]
)
README = ROOT / "README.md"
_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)
_COMPLETION = """
receivers: {oom: }
exporters: {debug: }
service: {pipelines: {logs: {receivers: [oom], exporters: [debug]}}}
"""


def _name(page):
    return str(page.relative_to(ROOT))


def _fenced(page, language):
    return [text for kind, text in _FENCED.findall(page.read_text()) if kind == language]


def _prose(page):
    return _FENCED.sub("", page.read_text())


def _anchors(page):
    """The fragments under which a page's headings are found."""
    kept = (re.sub(r"[^\w\- ]", "", title.lower()) for title in _HEADING.findall(_prose(page)))
    return {title.strip().replace(" ", "-") for title in kept}


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page):
    broken = []
    for link in _LINK.findall(_prose(page)):
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if "://" in link:
            continue
        if not target.exists() or (fragment and fragment not in _anchors(target)):
            broken.append(link)

    assert broken == []


EXAMPLES = [
    pytest.param(text, id=f"{_name(page)}-{number}")
    for page in PAGES
    for number, text in enumerate(_fenced(page, "yaml"))
    if not text.startswith("apiVersion:")  # Kubernetes', not the agent's
]


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_are_valid(text):
    """A part of a configuration is completed with a pipeline; a whole one stands for itself."""
    sources = [f"yaml:{text}"]
    if "service" not in yaml.safe_load(text):
        sources.insert(0, f"yaml:{_COMPLETION}")

    try:
        configs.load(sources, env={})
    except problems.InvalidConfig as error:
        pytest.fail(str(error))


def test_there_are_examples():
    assert len(EXAMPLES) >= 10


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_verbs_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"\bmake ([a-z]+)\b", "\n".join(_code_of(page))))

    assert {verb for verb in named if not re.search(rf"^{verb}:", makefile, re.MULTILINE)} == set()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_exist(page):
    assert isinstance(cli.main, click.Group)
    named = set(re.findall(r"(?<![/\w-])otel-oom ([a-z][a-z-]+)\b", "\n".join(_code_of(page))))

    assert named - set(cli.main.commands) == set()


def _code_of(page):
    """What a page shows as code: inline, in shell blocks, and on lines that begin with a prompt."""
    shown = "\n".join(text for _, text in _FENCED.findall(page.read_text()))
    prompts = re.findall(r"^\$ (.*)$", shown, re.MULTILINE)
    return [*_CODE.findall(_prose(page)), *_fenced(page, "sh"), *prompts]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_attributes_exist(page):
    """`oom.limit.bytes` must be in the contract; `oom.limit.*` must begin something there."""
    known = {
        *semconv.ATTRIBUTES,
        *(named.name for named in (*semconv.METRICS, *semconv.EVENTS)),
        semconv.SPAN_STORAGE_PREFIX,
        *(semconv.SPAN_STORAGE_PREFIX + operation for operation in OPERATIONS),
    }
    named = {
        code
        for code in _CODE.findall(_prose(page))
        if re.fullmatch(r"(oom|storage|linux\.psi)\.[a-z_.]+(\.?\*)?", code)
        and not code.endswith((".md", ".c", ".h", ".py", ".o", ".json"))
        and not code.startswith(("oom.bpf", "storage.bpf"))
    }
    unknown = {name for name in named if not _is_known(name, known)}

    assert unknown == set()


def _is_known(name, known):
    prefix = name.removesuffix("*")
    return name in known or (prefix != name and any(key.startswith(prefix) for key in known))


@pytest.mark.parametrize("notes", sorted(ROOT.glob("docs/components/*/*.notes.md")), ids=_name)
def test_options_in_the_notes_exist(notes):
    """A lower_snake word in code is an option of that component, or a name of something known."""
    page = notes.with_name(notes.name.replace(".notes.md", ".md"))
    known = {part for name in _listed(page) for part in (name, name.rpartition(".")[2])}
    known |= _listed(ROOT / "docs" / "telemetry.md")
    types = {path.stem for path in ROOT.glob("docs/components/*/*.md")}
    words = {
        code
        for code in _CODE.findall(_prose(notes))
        if re.fullmatch(r"[a-z]+(_[a-z]+)+(\.[a-z_]+)*", code)
    }

    assert words - known - types - _reasons() - {"dead_letters"} == set()  # it is a table's


def _listed(page):
    """The names in the first column of a page's tables."""
    return set(re.findall(r"^\| `([^`]+)` \|", page.read_text(), re.MULTILINE))


def _reasons():
    """The reasons of `dropped` are literals in the source, as `reason=` or after a message."""
    source = "\n".join(path.read_text() for path in (ROOT / "otel_oom").rglob("*.py"))
    return set(re.findall(r'(?:reason=|, )"([a-z]+(?:_[a-z]+)+)"', source))


def test_the_readme_shows_what_validate_says(tmp_path):
    """The config and the output in the README are of one run."""
    console = next(text for text in _fenced(README, "console") if "cat agent.yaml" in text)
    _, config, said = re.split(r"^\$ .*\n", console, flags=re.MULTILINE)
    (tmp_path / "agent.yaml").write_text(config)
    command = [sys.executable, "-P", "-m", "otel_oom", "validate", "--config", "agent.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert (done.stderr, done.returncode) == (said, 2)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_a_page_ends_with_one_newline(page):
    text = page.read_text()

    assert text.endswith("\n")
    assert not text.endswith("\n\n")
