"""docs/verifier.md: what the kernel's verifier walks for each program, from bpf/verified.json."""

from __future__ import annotations

import json
import pathlib

_FIGURES = pathlib.Path(__file__).resolve().parent.parent / "bpf" / "verified.json"
_TEXT = """\
# The verifier's budget

Instructions that the kernel's verifier walks for each program when it is loaded, by kernel. It
allows a million for each. `make test` holds the programs to the figures of the kernel that it runs
on, `make kernels` to those of the kernels that it boots: a program that walks over a tenth more
than its figure fails, until the figure is changed in the same commit
(`make kernels ARGS="tests/kernels/test_verifier.py --write-figures"`, then `make docs`).

A dash is a program that the kernel cannot take or has no use for: a tracepoint that it has not,
another way of hooking, the other form of `mark_victim`.
"""


def page() -> str:
    """A row for each program, a column for each kernel."""
    figures: dict[str, dict[str, int]] = json.loads(_FIGURES.read_text())
    programs = sorted({program for walked in figures.values() for program in walked})
    rows = [
        ["program", *figures],
        ["---", *("---:" for _ in figures)],
        *(
            [f"`{program}`", *(_shown(walked.get(program)) for walked in figures.values())]
            for program in programs
        ),
        ["all", *(_shown(sum(walked.values())) for walked in figures.values())],
    ]
    return _TEXT + "\n" + "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _shown(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"
