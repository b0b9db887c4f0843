"""What is read at a mark, from trees in which much is missing."""

from __future__ import annotations

import errno
import os
import pathlib

import pytest

from otel_oom.receivers.oom import context
from otel_oom.receivers.oom.cgroups import Hierarchy

PRESSURE = """\
some avg10=12.34 avg60=0.00 avg300=0.00 total=123
full avg10=0.50 avg60=0.00 avg300=0.00 total=45
"""
V2_STAT = "anon 1\nfile 2\nkernel 3\nkernel_stack 4\npagetables 5\nshmem 6\nslab 7\nsock 8\n"
V1_STAT = "cache 10\nrss 11\nshmem 12\ntotal_cache 20\ntotal_rss 21\ntotal_shmem 22\n"
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "proc/pressure").mkdir(parents=True)
    (tmp_path / "proc/pressure/memory").write_text(PRESSURE)
    (tmp_path / "cg/pod/app").mkdir(parents=True)
    (tmp_path / "cg/pod/memory.pressure").write_text(PRESSURE)
    (tmp_path / "cg/pod/app/memory.stat").write_text(V2_STAT)
    return tmp_path


def reader(root: pathlib.Path, version: int = 2, cap: int = 16) -> context.Reader:
    return context.Reader(root, Hierarchy(version, str(root / "cg")), cap)


def add_process(root: pathlib.Path, pid: int, name: bytes, parent: int = 1, pages: int = 3) -> None:
    (root / f"proc/{pid}").mkdir(parents=True)
    rest = f"S {parent} " + " ".join(["0"] * 19) + f" {pages} 99 0\n"
    (root / f"proc/{pid}/stat").write_bytes(b"%d (%s) " % (pid, name) + rest.encode())


def test_a_victim_in_a_pod_on_version_2(root: pathlib.Path) -> None:
    (root / "proc/7").mkdir()
    (root / "proc/7/cmdline").write_bytes(b"app\0--x\0")
    found = reader(root).read("/pod/app", "/pod", 7)
    assert found.memory == {
        "anon": 1,
        "file": 2,
        "shmem": 6,
        "slab": 7,
        "kernel_stack": 4,
        "pagetables": 5,
    }
    assert found.cgroup_pressure == context.Pressure(12.34, 0.5)
    assert found.host_pressure == context.Pressure(12.34, 0.5)
    assert found.command_line == b"app\0--x\0"


def test_version_1_counts_with_the_cgroups_below_and_has_less(root: pathlib.Path) -> None:
    (root / "cg/pod/app/memory.stat").write_text(V1_STAT)
    found = reader(root, version=1).read("/pod/app", "/pod", 7)
    assert found.memory == {"anon": 21, "file": 20, "shmem": 22}
    assert found.memory_reason == "memory.stat of cgroup v1 does not tell"
    assert found.cgroup_pressure == context.Pressure(reason="cgroup v1 has no pressure files")


def test_a_kernel_that_counts_less_is_the_reason(root: pathlib.Path) -> None:
    stat = root / "cg/pod/app/memory.stat"
    stat.write_text(stat.read_text().replace("pagetables 5\n", ""))
    found = reader(root).read("/pod/app", "/pod", 7)
    assert "pagetables" not in found.memory
    assert found.memory_reason == "memory.stat of this kernel does not tell"


def test_a_cgroup_that_is_gone_leaves_its_reason(root: pathlib.Path) -> None:
    found = reader(root).read("/gone", "/gone", 7)
    assert found.memory == {}
    assert found.memory_reason == "memory.stat of the cgroup could not be read"
    assert found.cgroup_pressure.reason == "memory.pressure: No such file or directory"
    assert found.command_line == b""
    assert found.siblings == ()


def test_without_a_limits_cgroup_there_is_no_pressure_of_it(root: pathlib.Path) -> None:
    found = reader(root).read("/pod/app", None, 7)
    assert found.cgroup_pressure.some is None
    assert "not known whose" in found.cgroup_pressure.reason


def test_a_kernel_without_pressure_says_why(root: pathlib.Path) -> None:
    (root / "proc/pressure/memory").unlink()
    found = reader(root).read("/pod/app", "/pod", 7)
    assert found.host_pressure == context.Pressure(reason="memory: No such file or directory")


def test_pressure_that_is_switched_off_says_why(
    root: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With psi=0 or cgroup.pressure=0 the files are there, and reading them fails."""
    real = os.read

    def read(fd: int, size: int) -> bytes:
        opened = pathlib.Path(f"/proc/self/fd/{fd}").readlink()
        if opened.match("memory.pressure") or opened.match("pressure/memory"):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(fd, size)

    monkeypatch.setattr(os, "read", read)
    found = reader(root).read("/pod/app", "/pod", 7)
    assert found.cgroup_pressure.reason == "memory.pressure: Operation not supported"
    assert found.host_pressure.reason == "memory: Operation not supported"


@pytest.mark.parametrize("text", ["", "some\n", "some avg60=1.0\n", "nothing like it"])
def test_a_pressure_file_without_averages_says_so(root: pathlib.Path, text: str) -> None:
    (root / "proc/pressure/memory").write_text(text)
    found = reader(root).read("/pod/app", "/pod", 7).host_pressure
    assert found == context.Pressure(reason="memory: no averages in it")


def test_a_pressure_file_may_lack_full(root: pathlib.Path) -> None:
    (root / "proc/pressure/memory").write_text(PRESSURE.splitlines()[0])
    assert reader(root).read("/pod/app", "/pod", 7).host_pressure == context.Pressure(12.34, None)


def test_siblings_are_the_processes_under_the_limit(root: pathlib.Path) -> None:
    (root / "cg/pod/cgroup.procs").write_text("")
    (root / "cg/pod/app/cgroup.procs").write_text("21\n22\n23\n")
    add_process(root, 21, b"plain", parent=20, pages=5)
    add_process(root, 22, b"a) R 9 (b", parent=21)
    found = reader(root).read("/pod/app", "/pod", 21).siblings
    assert [(s.pid, s.parent_pid, s.name, s.memory) for s in found] == [
        (21, 20, "plain", 5 * PAGE),
        (22, 21, "a) R 9 (b", 3 * PAGE),
    ]


@pytest.mark.parametrize(
    ("raw", "name"),
    [(b"", ""), (b")", ")"), (b"(((", "((("), (b"new\nline", "new\nline"), (b"\xff", "\\xff")],
)
def test_a_name_may_hold_any_byte(root: pathlib.Path, raw: bytes, name: str) -> None:
    (root / "cg/pod/app/cgroup.procs").write_text("21\n")
    add_process(root, 21, raw, parent=20)
    (found,) = reader(root).read("/pod/app", "/pod", 21).siblings
    assert (found.name, found.parent_pid) == (name, 20)


def test_siblings_are_no_more_than_the_cap(root: pathlib.Path) -> None:
    (root / "cg/pod/app/cgroup.procs").write_text("".join(f"{n}\n" for n in range(21, 30)))
    for pid in range(21, 30):
        add_process(root, pid, b"x")
    assert len(reader(root, cap=4).read("/pod/app", "/pod", 1).siblings) == 4
    assert reader(root, cap=0).read("/pod/app", "/pod", 1).siblings == ()


def test_a_storm_under_one_limit_reads_the_processes_once(root: pathlib.Path) -> None:
    (root / "cg/pod/app/cgroup.procs").write_text("21\n")
    add_process(root, 21, b"x")
    one = reader(root)
    first = one.read("/pod/app", "/pod", 21).siblings
    (root / "cg/pod/app/cgroup.procs").write_text("")
    assert one.read("/pod/app", "/pod", 21).siblings is first
    assert one.read("/pod/app", "/pod/app", 21).siblings == ()


def test_this_process_reads_as_the_kernel_tells_it(tmp_path: pathlib.Path) -> None:
    (tmp_path / "me").mkdir()
    (tmp_path / "me/cgroup.procs").write_text(f"{os.getpid()}\n")
    real = context.Reader(pathlib.Path("/"), Hierarchy(2, str(tmp_path)), 4)
    found = real.read("/me", "/me", os.getpid())
    (myself,) = found.siblings
    assert myself.parent_pid == os.getppid()
    assert myself.name == pathlib.Path("/proc/self/comm").read_text().strip()
    assert myself.memory > 1 << 20
    assert found.command_line == pathlib.Path("/proc/self/cmdline").read_bytes()
