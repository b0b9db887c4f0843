"""Every program of the object, before this machine's verifier; and what the object is made of."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

from otel_oom import errors
from otel_oom.bpf import events, layout, loader, probe

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = (
    probe.MARK_BY_TASK,
    probe.MARK_BY_PID,
    *probe.BASE,
    *probe.FENTRY,
    *probe.KPROBE,
)
LAYOUTS = [value for name, value in vars(events).items() if name.endswith("Layout")]


@pytest.fixture
def oom() -> loader.Object:
    try:
        return loader.Object("oom")
    except errors.ProbeUnsupported as error:
        pytest.skip(f"needs the built object and libbpf: {error}")


def names(opened: loader.Object) -> set[str]:
    library, found = opened._library, set()
    program = library.bpf_object__next_program(opened._object, None)
    while program:
        found.add(library.bpf_program__name(program).decode())
        program = library.bpf_object__next_program(opened._object, program)
    return found


def test_the_object_has_the_programs_that_probing_chooses_from(oom: loader.Object) -> None:
    assert names(oom) == set(PROGRAMS)
    oom.close()


def test_the_object_has_every_struct_that_python_decodes(oom: loader.Object) -> None:
    layout.check(oom.types(), tuple(LAYOUTS))
    assert len(LAYOUTS) == 7
    oom.close()


def test_the_object_was_compiled_from_the_header_of_events_py() -> None:
    tool = ROOT / "tools" / "make_events.py"
    if not tool.exists():
        pytest.skip("needs the checkout's tools/: run from a clone")
    done = subprocess.run(
        [sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_object_that_nobody_built_is_asked_for_by_its_target() -> None:
    with pytest.raises(errors.ProbeUnsupported, match="build it with `make bpf`"):
        loader.Object("of_mars")


def test_a_map_or_a_program_that_is_not_there_is_a_key_error(oom: loader.Object) -> None:
    with pytest.raises(KeyError):
        oom.set_max_entries("map_of_mars", 4096)
    with pytest.raises(KeyError):
        oom.attach("program_of_mars")
    oom.close()
    oom.close()


def attempt(oom: loader.Object, program: str) -> str:
    """What came of loading and attaching it alone."""
    try:
        oom.choose((program,))
        oom.load()
        oom.attach(program)
    except errors.LoadFailed as failed:
        return str(failed)
    return f"{oom.verified_instructions()[program]} verified instructions"


@pytest.mark.root
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_alone_loads_and_attaches_or_is_refused_with_a_reason(
    oom: loader.Object, program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What capture rests on must load; of the rest, the kernel's reason is told."""
    found = probe.kernel()
    needed = {probe.MARK_BY_TASK if found.mark_takes_task else probe.MARK_BY_PID, *probe.BASE}
    said = attempt(oom, program)
    oom.close()
    assert "verified instructions" in said or program not in needed, said
    with capsys.disabled():
        print(f"\n  {program}: {said.splitlines()[0]}", end="")
    if "verified instructions" not in said:
        assert re.match(r"oom.bpf.o cannot be (loaded|attached \(\w+\)): \w+", said)
        assert len(said.splitlines()) > 1, "without what libbpf said"


@pytest.mark.root
def test_the_form_of_the_mark_that_the_kernel_has_not_is_refused(oom: loader.Object) -> None:
    """With the verifier's own word: an argument of another type than the program takes."""
    takes_task = probe.kernel().mark_takes_task
    oom.choose((probe.MARK_BY_PID if takes_task else probe.MARK_BY_TASK,))
    with pytest.raises(errors.LoadFailed, match=r"oom.bpf.o cannot be loaded: ") as refused:
        oom.load()
    oom.close()
    words = "ptr_task_struct" if takes_task else "doesn't have 2-th argument"
    assert words in str(refused.value)


@pytest.mark.root
def test_the_whole_object_attaches_with_the_best_hook_there_is() -> None:
    attached = probe.attach(probe.kernel(), 1 << 20)
    assert attached.decision_hook in ("fentry", "kprobe", "none")
    assert set(attached.object.verified_instructions()) >= set(probe.BASE)
    assert attached.object.recursion_misses() == 0
    attached.object.detach()
    assert attached.object.verified_instructions() == {}
    attached.object.close()
