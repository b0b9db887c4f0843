"""Why block requests cannot be measured, said with its remedy; and the number of CPUs."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from otel_oom import errors
from otel_oom.bpf import block_probe, probe

EVERYTHING = probe.Kernel(
    has_btf=True,
    mark_arguments=2,
    mark_takes_task=True,
    has_kprobes=True,
    lockdown="integrity",
    capabilities=1 << probe.CAP_SYS_ADMIN,
)
SIZES = block_probe.Sizes(cpus=2, max_series=10, ring_bytes=4096)


def test_without_rights_it_is_refused_before_anything_is_loaded() -> None:
    found = dataclasses.replace(EVERYTHING, capabilities=0)
    assert "CAP_BPF and CAP_PERFMON" in block_probe.refusal(found)
    with pytest.raises(errors.ProbeUnsupported, match="CAP_BPF"):
        block_probe.attach(found, SIZES, 1, 1)


@pytest.mark.parametrize("arguments", [0, 2, 4])
def test_another_form_of_the_tracepoint_is_refused(
    arguments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "tracepoint", lambda _: (arguments, True))
    assert "no tracepoint block_rq_complete with a request" in block_probe.refusal(EVERYTHING)


def test_an_issue_with_the_queue_first_is_left_out_with_its_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probe, "tracepoint", lambda _: (2, True))
    assert "has 2 arguments" in block_probe.why_no_issues()


@pytest.mark.parametrize(("text", "cpus"), [("0\n", 1), ("0-63\n", 64), ("0-3,8-11\n", 12)])
def test_cpus_are_counted_to_the_highest_possible(
    text: str, cpus: int, tmp_path: pathlib.Path
) -> None:
    folder = tmp_path / "sys/devices/system/cpu"
    folder.mkdir(parents=True)
    (folder / "possible").write_text(text)
    assert block_probe.possible_cpus(tmp_path) == cpus


def test_without_sys_the_remedy_is_said(tmp_path: pathlib.Path) -> None:
    with pytest.raises(errors.ProbeUnsupported, match="mount /sys there, or set `root_path`"):
        block_probe.possible_cpus(tmp_path)


def test_slots_hold_the_overflow_too() -> None:
    assert SIZES.slots == 18
