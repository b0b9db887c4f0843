"""What doctor says of roots that lack this and that; the kernel itself is this machine's."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
from typing import Any

import pytest

from otel_oom.pipeline.component import Check
from otel_oom.receivers.oom import doctor
from otel_oom.receivers.oom.config import Config

STATUS = "Name:\tx\nCapInh:\t0000000000000000\nCapEff:\t{:016x}\n"
ALL, NONE, BPF_AND_PERFMON = (1 << 41) - 1, 0, 1 << 39 | 1 << 38


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """A host that has all but the rights; so no probe is attached."""
    for directory in ("proc/self", "sys/kernel/btf", "sys/kernel/security", "cg"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text(STATUS.format(NONE))
    (tmp_path / "proc/self/mounts").write_text(f"cgroup {tmp_path}/cg cgroup rw,memory 0 0\n")
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 1\noom_kill 0\n")
    (tmp_path / "sys/kernel/btf/vmlinux").touch()
    return tmp_path


def checks(root: pathlib.Path, **options: Any) -> dict[str, Check]:
    found = doctor.checks(Config(root_path=str(root), state_directory=str(root), **options))
    assert all(check.detail for check in found)
    assert all(check.remedy for check in found if not check.ok)
    return {check.name: check for check in found}


def test_rights_that_are_missing_are_named_with_the_remedy(root: pathlib.Path) -> None:
    found = checks(root)
    assert not found["rights"].ok
    assert found["rights"].detail == f"uid {os.geteuid()}, CapEff 0x0"
    assert "CAP_BPF and CAP_PERFMON" in found["rights"].remedy
    assert not found["probes"].ok
    assert "CAP_BPF and CAP_PERFMON" in found["probes"].detail


@pytest.mark.parametrize("effective", [ALL, BPF_AND_PERFMON, 1 << 21])
def test_rights_that_suffice(root: pathlib.Path, effective: int) -> None:
    (root / "proc/self/status").write_text(STATUS.format(effective))
    (root / "sys/kernel/btf/vmlinux").unlink()  # else it would attach probes
    assert checks(root)["rights"].ok


def test_a_kernel_without_btf(root: pathlib.Path) -> None:
    (root / "sys/kernel/btf/vmlinux").unlink()
    found = checks(root)
    assert (found["BTF"].ok, found["BTF"].detail) == (False, "missing")
    assert not found["probes"].ok


@pytest.mark.parametrize(
    ("text", "ok", "detail"),
    [
        (None, True, "no lockdown file: none"),
        ("[none] integrity confidentiality\n", True, "none"),
        ("none [integrity] confidentiality\n", True, "integrity"),
        ("none integrity [confidentiality]\n", False, "confidentiality"),
    ],
)
def test_lockdown(root: pathlib.Path, text: str | None, *, ok: bool, detail: str) -> None:
    if text is not None:
        (root / "sys/kernel/security/lockdown").write_text(text)
    found = checks(root)["lockdown"]
    assert (found.ok, found.detail) == (ok, detail)


def test_cgroups_and_the_kernels_counter(root: pathlib.Path) -> None:
    found = checks(root)
    assert found["memory cgroups"].detail == f"v1 at {root}/cg"
    assert found["kernel's kill counter"].ok
    (root / "proc/vmstat").write_text("nr_free_pages 1\n")
    (root / "proc/self/mounts").write_text("")
    found = checks(root)
    assert not found["memory cgroups"].ok
    assert not found["kernel's kill counter"].ok


def test_a_state_directory_that_cannot_be_made(root: pathlib.Path) -> None:
    (root / "file").touch()
    options = Config(root_path=str(root), state_directory=str(root / "file" / "below"))
    (found,) = (check for check in doctor.checks(options) if check.name == "state directory")
    assert not found.ok
    assert "kills while the agent is down are not reported" in found.remedy


def test_a_root_without_proc_is_said_and_nothing_is_raised(tmp_path: pathlib.Path) -> None:
    found = checks(tmp_path)
    assert next(iter(found)) == "/proc and /sys"
    assert not found["kernel's kill counter"].ok
    assert str(tmp_path / "proc/self/status") in found["/proc and /sys"].detail


def test_a_host_that_lacks_only_its_counter_file(root: pathlib.Path) -> None:
    (root / "proc/vmstat").unlink()
    assert not checks(root)["kernel's kill counter"].ok


def test_a_user_who_may_not_look_into_the_state_directory_is_told(tmp_path: pathlib.Path) -> None:
    """As another uid, because root may look anywhere."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user: run as root")
    secret = tmp_path / "secret"
    secret.mkdir(mode=0o700)
    tmp_path.chmod(0o755)
    code = (
        "import os, pathlib; os.setgid(65534); os.setuid(65534)\n"
        "from otel_oom.receivers.oom import doctor\n"
        f"print(doctor._state(pathlib.Path({str(secret / 'a' / 'b')!r})).ok)"
    )
    code = code.replace("import os, pathlib;", "import os, pathlib, otel_oom.receivers.oom;")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr


def test_the_mode_that_works_makes_the_better_ones_a_wish(root: pathlib.Path) -> None:
    """Without rights to load programs: the check fails only if nothing else may be used."""
    found = checks(root, capture_modes=["core", "counter"])
    assert found["capture mode"].detail == "counter of core, counter"
    assert not found["rights"].required
    found = checks(root, capture_modes=["core"])
    assert not found["capture mode"].ok
    assert found["rights"].required


@pytest.mark.root
def test_this_machine_captures_and_says_how() -> None:
    found = {check.name: check for check in doctor.checks(Config())}
    assert found["probes"].ok, found["probes"]
    assert "on_mark_victim" in found["probes"].detail
    assert found["oom_kill_process"].detail.startswith("hooked by ")
    assert found["capture mode"].detail == "core of core, kmsg, counter"
