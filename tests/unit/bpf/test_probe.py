"""What a kernel lacks is said with its cause and its remedy, before anything is loaded."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys

import pytest

from otel_oom import errors
from otel_oom.bpf import libbpf, probe

EVERYTHING = probe.Kernel(
    has_btf=True,
    mark_arguments=2,
    mark_takes_task=True,
    has_kprobes=True,
    lockdown="integrity",
    capabilities=1 << probe.CAP_SYS_ADMIN,
)
STATUS = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t{:016x}\nCapBnd:\t000001ffffffffff\n"


def root(tmp_path: pathlib.Path, capabilities: int = (1 << 41) - 1) -> pathlib.Path:
    """A root without BTF, so that this machine's is not asked for its tracepoint."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text(STATUS.format(capabilities))
    return tmp_path


def without(**what: object) -> probe.Kernel:
    return dataclasses.replace(EVERYTHING, **what)  # type: ignore[arg-type]


def test_a_kernel_with_everything_is_not_refused() -> None:
    assert probe.refusal(EVERYTHING) == ""


@pytest.mark.parametrize(
    ("capabilities", "may"),
    [
        (0, False),
        (1 << probe.CAP_BPF, False),
        (1 << probe.CAP_PERFMON, False),
        (1 << probe.CAP_BPF | 1 << probe.CAP_PERFMON, True),
        (1 << probe.CAP_SYS_ADMIN, True),
        ((1 << 41) - 1 - (1 << probe.CAP_SYS_ADMIN), True),
    ],
)
def test_both_capabilities_or_the_old_one_for_both(capabilities: int, *, may: bool) -> None:
    """CAP_BPF alone loads, and then may not read kernel memory."""
    assert without(capabilities=capabilities).may_load is may


@pytest.mark.parametrize(
    ("lacks", "cause", "remedy"),
    [
        ({"capabilities": 0}, "may not load tracing programs", "CAP_BPF and CAP_PERFMON"),
        (
            {"has_btf": False},
            "no BTF (/sys/kernel/btf/vmlinux is missing)",
            "CONFIG_DEBUG_INFO_BTF",
        ),
        ({"lockdown": "confidentiality"}, "at `confidentiality`", "lockdown=integrity"),
        ({"mark_arguments": 0}, "no tracepoint mark_victim", "Linux 5.8"),
    ],
)
def test_a_refusal_names_the_cause_and_the_remedy(
    lacks: dict[str, object], cause: str, remedy: str
) -> None:
    text = probe.refusal(without(**lacks))
    assert cause in text
    assert remedy in text
    with pytest.raises(errors.ProbeUnsupported) as raised:
        probe.attach(without(**lacks), 1 << 20)
    assert str(raised.value) == text


def test_a_bare_root_has_neither_btf_nor_kprobes_nor_lockdown(tmp_path: pathlib.Path) -> None:
    found = probe.kernel(root(tmp_path))
    assert found == probe.Kernel(
        has_btf=False,
        mark_arguments=0,
        mark_takes_task=False,
        has_kprobes=False,
        lockdown="",
        capabilities=(1 << 41) - 1,
    )
    assert "no BTF" in probe.refusal(found)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        ("none integrity [confidentiality]\n", "confidentiality"),
        ("", ""),
        ("nonsense", ""),
    ],
)
def test_lockdown_is_what_stands_in_brackets(
    tmp_path: pathlib.Path, text: str, chosen: str
) -> None:
    where = root(tmp_path) / "sys/kernel/security"
    where.mkdir(parents=True)
    (where / "lockdown").write_text(text)
    assert probe.kernel(tmp_path).lockdown == chosen


def test_no_capabilities(tmp_path: pathlib.Path) -> None:
    assert not probe.kernel(root(tmp_path, capabilities=0)).may_load


def test_kprobes_are_there_where_their_event_source_is(tmp_path: pathlib.Path) -> None:
    (root(tmp_path) / "sys/bus/event_source/devices/kprobe").mkdir(parents=True)
    assert probe.kernel(tmp_path).has_kprobes


def test_a_root_without_proc_is_said(tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        errors.ProbeUnsupported, match=r"proc/self/status cannot be read .*root_path"
    ):
        probe.kernel(tmp_path)


def test_hooks_are_tried_best_first_and_what_is_left_out_has_its_reason() -> None:
    left_out: dict[str, str] = {}
    assert [how for how, _ in probe.decision_hooks(EVERYTHING, left_out)] == [
        "fentry",
        "kprobe",
        "none",
    ]
    assert left_out == {}
    hooks = probe.decision_hooks(without(has_kprobes=False), left_out)
    assert [how for how, _ in hooks] == ["fentry", "none"]
    assert "CONFIG_KPROBES" in left_out["kprobe"]


def test_this_kernel_has_the_tracepoint_in_one_of_its_two_forms() -> None:
    if not pathlib.Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("needs a kernel with BTF: boot one built with CONFIG_DEBUG_INFO_BTF=y")
    found = probe.kernel()
    assert (found.mark_arguments, found.mark_takes_task) in [(2, True), (1, False)]


def test_this_kernel_lacks_a_tracepoint_that_nobody_wrote() -> None:
    if not pathlib.Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("needs a kernel with BTF: boot one built with CONFIG_DEBUG_INFO_BTF=y")
    types = libbpf.library().btf__load_vmlinux_btf()
    try:
        assert probe._prototype(types, b"btf_trace_of_mars") == (0, False)
        assert probe._prototype(types, b"btf_trace_sched_process_exit")[1]
    finally:
        libbpf.library().btf__free(types)


def test_a_machine_without_libbpf_is_told_how_to_get_it() -> None:
    """In a process of its own, because the library is loaded once."""
    code = (
        "from otel_oom import errors\nfrom otel_oom.bpf import libbpf\n"
        "libbpf._LIBRARY = 'libbpf-of-mars.so.1'\n"
        "try:\n    libbpf.library()\nexcept errors.ProbeUnsupported as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert "libbpf-of-mars.so.1 cannot be loaded" in done.stdout
    assert "install libbpf 1.0 or newer" in done.stdout
