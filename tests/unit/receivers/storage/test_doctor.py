"""What doctor says of roots that lack this and that; the kernel itself is this machine's."""

from __future__ import annotations

import os
import pathlib
import re

import pytest
from doubles.storage_tier import Host

from otel_oom import errors
from otel_oom.bpf import tracepoints
from otel_oom.pipeline.component import Check
from otel_oom.receivers.storage import doctor, operations
from otel_oom.receivers.storage.config import Config


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """A host with a disk, cgroups and BTF, for a process without rights."""
    Host(tmp_path).disk("vda", 254 << 20)
    (tmp_path / "proc/self/status").write_text("CapEff:\t0000000000000000\n")
    (tmp_path / "sys/kernel/btf").mkdir(parents=True)
    (tmp_path / "sys/kernel/btf/vmlinux").touch()
    (tmp_path / "sys/devices/system/cpu").mkdir(parents=True)
    (tmp_path / "sys/devices/system/cpu/possible").write_text("0-1\n")
    (tmp_path / "sys/block/vda/queue").mkdir(parents=True)
    return tmp_path


def checks(root: pathlib.Path, **options: object) -> dict[str, Check]:
    found = doctor.checks(Config(root_path=str(root), **options))  # type: ignore[arg-type]
    assert all(check.detail for check in found)
    assert all(check.remedy for check in found if not check.ok)
    return {check.name: check for check in found}


def test_rights_that_are_missing_are_named_with_the_remedy(root: pathlib.Path) -> None:
    found = checks(root)
    assert (found["rights"].ok, found["rights"].detail) == (
        False,
        f"uid {os.geteuid()}, CapEff 0x0",
    )
    assert not found["block tier"].ok
    assert "CAP_BPF and CAP_PERFMON" in found["block tier"].detail


def test_a_kernel_without_btf(root: pathlib.Path) -> None:
    (root / "sys/kernel/btf/vmlinux").unlink()
    found = checks(root)
    assert (found["BTF"].ok, found["BTF"].detail) == (False, "missing")
    assert not found["block tier"].ok


def test_devices_are_listed_and_a_pattern_without_any_is_told(root: pathlib.Path) -> None:
    assert checks(root)["block devices"].detail == "vda"
    found = checks(root, devices=["sd*"])["block devices"]
    assert (found.ok, found.required) == (False, False)
    assert found.detail == "none that fits ['sd*']"


@pytest.mark.parametrize(
    ("text", "ok", "detail"),
    [(None, True, "on"), ("1\n", True, "on"), ("0\n", False, "off on vda")],
)
def test_queue_statistics(root: pathlib.Path, text: str | None, *, ok: bool, detail: str) -> None:
    if text is not None:
        (root / "sys/block/vda/queue/iostats").write_text(text)
    found = checks(root)["queue statistics"]
    assert (found.ok, found.detail) == (ok, detail)


def test_a_host_without_cgroups_is_only_poorer(root: pathlib.Path) -> None:
    assert checks(root)["block I/O cgroups"].ok
    (root / "proc/self/mounts").write_text("")
    found = checks(root)["block I/O cgroups"]
    assert (found.ok, found.required, found.detail) == (False, False, "no cgroups seen")


def test_a_root_without_proc_is_said_and_nothing_is_raised(tmp_path: pathlib.Path) -> None:
    assert list(checks(tmp_path)) == ["/proc and /sys"]


@pytest.mark.root
def test_this_machine_sees_its_disks_and_says_how() -> None:
    found = {check.name: check for check in doctor.checks(Config())}
    assert found["block tier"].ok, found["block tier"]
    assert "block_rq_complete" in found["block tier"].detail
    assert found["operation tier"].ok, found["operation tier"]
    assert re.search(r"on_sys_enter \([1-9]\d*\), ", found["operation tier"].detail)
    assert found["block devices"].ok


@pytest.mark.root
def test_tracepoints_that_a_kernel_lacks_are_told_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a kernel whose filesystem xfs is a module that is not loaded."""
    arguments = tracepoints.Tracepoints.arguments

    def without_xfs(self: tracepoints.Tracepoints, hook: str) -> int:
        return tracepoints.ABSENT if hook.startswith("xfs") else arguments(self, hook)

    monkeypatch.setattr(tracepoints.Tracepoints, "arguments", without_xfs)
    found = {check.name: check for check in doctor.checks(Config())}
    assert found["operation tier"].ok
    assert "xfs" not in found["operation tier"].detail
    left_out = found["operations by xfs_file_fsync"]
    assert (left_out.ok, "its module is not loaded" in left_out.detail) == (True, True)


def test_a_tier_that_cannot_be_attached_says_why(
    root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise errors.ProbeUnsupported("there is no such tracepoint\nand a long log")

    monkeypatch.setattr(operations, "Operations", refuse)
    found = checks(root)["operation tier"]
    assert (found.ok, found.detail) == (False, "there is no such tracepoint")
