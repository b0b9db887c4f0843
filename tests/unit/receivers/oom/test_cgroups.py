"""The memory controller's files, in trees of either version that a test makes."""

from __future__ import annotations

import os
import pathlib

import pytest
from doubles import memory_cgroup

from otel_oom.receivers.oom import cgroups
from otel_oom.receivers.oom.cgroups import Count, Hierarchy

KILLS_FILE = {1: "memory.oom_control", 2: "memory.events.local"}
V1_MOUNT = "cgroup /sys/fs/cgroup/memory cgroup rw,nosuid,memory 0 0"
V2_MOUNT = "cgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0"


def host(tmp_path: pathlib.Path, *mounts: str) -> pathlib.Path:
    """A root whose /proc/self/mounts has these lines."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mounts").write_text("".join(line + "\n" for line in mounts))
    return tmp_path


def tree(tmp_path: pathlib.Path, version: int, **kills: int) -> Hierarchy:
    """Cgroups with as many kills; `__` in a name separates the levels."""
    for name, count in kills.items():
        make(tmp_path / name.replace("__", "/"), version, count)
    return Hierarchy(version, str(tmp_path))


def make(directory: pathlib.Path, version: int, kills: int) -> int:
    directory.mkdir(parents=True, exist_ok=True)
    text = f"low 0\nhigh 0\nmax 0\noom 3\noom_kill {kills}\noom_group_kill 9\n"
    if version == 1:
        text = f"oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n"
    (directory / KILLS_FILE[version]).write_text(text)
    return directory.stat().st_ino


def test_version_1_is_its_memory_hierarchy_among_the_others(tmp_path: pathlib.Path) -> None:
    mounts = ["cgroup /sys/fs/cgroup/cpu cgroup rw,cpu,cpuacct 0 0", V1_MOUNT]
    root = host(tmp_path, "tmpfs /sys/fs/cgroup tmpfs rw 0 0", *mounts)
    assert cgroups.find(root) == Hierarchy(1, f"{tmp_path}/sys/fs/cgroup/memory")


def test_version_2_is_where_the_memory_controller_is_available(tmp_path: pathlib.Path) -> None:
    root = host(tmp_path, V2_MOUNT)
    assert cgroups.find(root) == Hierarchy(0, "")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/cgroup.controllers").write_text("cpuset cpu io memory pids\n")
    assert cgroups.find(root) == Hierarchy(2, f"{tmp_path}/sys/fs/cgroup")


@pytest.mark.parametrize("first", [0, 1])
def test_a_hybrid_host_has_memory_in_version_1(tmp_path: pathlib.Path, first: int) -> None:
    """Whichever is mounted first, and though a unified hierarchy is there as well."""
    mounts = [V1_MOUNT, V2_MOUNT.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")]
    root = host(tmp_path, mounts[first], mounts[1 - first])
    assert cgroups.find(root).version == 1


@pytest.mark.parametrize(
    "mounts",
    [
        (),
        ("",),
        ("cgroup",),
        ("cgroup /sys/fs/cgroup/cpu cgroup",),
        ("proc /proc proc rw 0 0", "cgroup /x cgroup rw,name=memory 0 0"),
    ],
)
def test_a_host_without_a_memory_controller_has_none(
    tmp_path: pathlib.Path, mounts: tuple[str, ...]
) -> None:
    assert cgroups.find(host(tmp_path, *mounts)) == Hierarchy(0, "")


def test_a_root_without_proc_has_none(tmp_path: pathlib.Path) -> None:
    found = cgroups.find(tmp_path)
    assert found == Hierarchy(0, "")
    assert found.counts() == {}
    assert found.processes("/", 9) == []


def test_a_mount_with_spaces_is_escaped_in_octal(tmp_path: pathlib.Path) -> None:
    """proc(5), fstab(5): space, tab, newline and backslash."""
    line = r"cgroup /mnt/a\040b\011c\012d\134e cgroup rw,memory 0 0"
    assert cgroups.find(host(tmp_path, line)).mount == f"{tmp_path}/mnt/a b\tc\nd\\e"


def test_a_mount_that_shows_the_prefix_already_is_not_given_it_twice(
    tmp_path: pathlib.Path,
) -> None:
    """In a container, our own mounts have it; but /hostile is not below /host."""
    mount = f"cgroup {tmp_path}/sys/fs/cgroup/memory cgroup rw,memory 0 0"
    root = host(tmp_path, mount)
    assert cgroups.find(root).mount == f"{tmp_path}/sys/fs/cgroup/memory"
    beside = f"cgroup {tmp_path}ile/memory cgroup rw,memory 0 0"
    (tmp_path / "proc/self/mounts").write_text(beside)
    assert cgroups.find(root).mount == f"{tmp_path}{tmp_path}ile/memory"


@pytest.mark.parametrize("version", [1, 2])
def test_counts_are_of_each_cgroup_that_has_any(tmp_path: pathlib.Path, version: int) -> None:
    hierarchy = tree(tmp_path, version, a=0, a__b=3, a__b__c=1, d=2)
    by_path = {count.path: count.kills for count in hierarchy.counts().values()}
    assert by_path == {"/a/b": 3, "/a/b/c": 1, "/d": 2}
    inode = (tmp_path / "a/b").stat().st_ino
    assert hierarchy.counts()[inode] == Count("/a/b", 3)


@pytest.mark.parametrize("version", [1, 2])
def test_the_root_has_a_count_too(tmp_path: pathlib.Path, version: int) -> None:
    make(tmp_path, version, 4)
    assert list(Hierarchy(version, str(tmp_path)).counts().values()) == [Count("/", 4)]


def test_names_of_odd_bytes_are_walked_and_spelled_as_records_do(tmp_path: pathlib.Path) -> None:
    for name in (b"a b", b"a\nb", b"\xff\xc3\xa9", "é".encode()):
        make(tmp_path / os.fsdecode(name), 2, 1)
    counts = Hierarchy(2, str(tmp_path)).counts().values()
    assert {count.path for count in counts} == {"/a b", "/a\nb", "/\\xffé", "/é"}
    for count in counts:
        count.path.encode()


def test_a_cgroup_that_goes_while_it_is_read_counts_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its counter and its inode, and between its listing and its counter."""
    hierarchy = tree(tmp_path, 2, a=1, b=1)
    real = cgroups._read

    def read(path: str) -> str:
        text = real(path)
        if path.startswith(f"{tmp_path}/a/"):
            pathlib.Path(path).unlink()
            pathlib.Path(path).parent.rmdir()
        return text

    monkeypatch.setattr(cgroups, "_read", read)
    assert [count.path for count in hierarchy.counts().values()] == ["/b"]


def test_links_are_not_followed(tmp_path: pathlib.Path) -> None:
    hierarchy = tree(tmp_path / "mount", 2, a=1)
    (tmp_path / "mount/loop").symlink_to(tmp_path / "mount")
    assert [count.path for count in hierarchy.counts().values()] == ["/a"]


def test_own_kills_are_of_the_cgroup_with_that_inode(tmp_path: pathlib.Path) -> None:
    hierarchy = tree(tmp_path, 2, a=7)
    inode = (tmp_path / "a").stat().st_ino
    assert hierarchy.own_kills("/a", inode) == 7
    assert hierarchy.own_kills("/a", inode + 1) is None
    assert hierarchy.own_kills("/gone", inode) is None


def test_stat_is_numbers_by_name(tmp_path: pathlib.Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/memory.stat").write_text("anon 4096\nfile 0\nodd\nworse x\nnegative -1\n")
    hierarchy = Hierarchy(2, str(tmp_path))
    assert hierarchy.stat("/a") == {"anon": 4096, "file": 0}
    assert hierarchy.stat("/gone") == {}


def test_processes_are_those_below_up_to_a_cap(tmp_path: pathlib.Path) -> None:
    for name, pids in (("a", "1\n2\n"), ("a/b", "3\n"), ("a/b/c", "4\n5\n"), ("z", "6\n")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "cgroup.procs").write_text(pids)
    hierarchy = Hierarchy(2, str(tmp_path))
    assert hierarchy.processes("/a", 16) == [1, 2, 3, 4, 5]
    assert hierarchy.processes("/a", 4) == [1, 2, 3, 4]
    assert sorted(hierarchy.processes("/", 16)) == [1, 2, 3, 4, 5, 6]
    (tmp_path / "a/cgroup.procs").unlink()
    assert hierarchy.processes("/a", 16) == [3, 4, 5]
    assert hierarchy.processes("/gone", 16) == []


def test_a_file_larger_than_one_read_is_read_whole(tmp_path: pathlib.Path) -> None:
    (tmp_path / "long").write_text("x" * 300_000)
    assert len(Hierarchy(2, str(tmp_path)).read("", "long")) == 300_000


def test_field_is_the_line_of_that_very_name() -> None:
    assert cgroups.field("oom 1\noom_kill 2\noom_kill_disable 3\n", "oom_kill") == 2
    assert cgroups.field("oom 1\n", "oom_kill") == 0


@pytest.mark.root
def test_this_machines_own_files_are_read() -> None:
    """A cgroup that the test makes: its inode is the kernel's id, and it has no kills yet."""
    with memory_cgroup.temporary(32 << 20) as group:
        hierarchy = cgroups.find(pathlib.Path("/"))
        assert hierarchy.version == group.version
        assert hierarchy.own_kills(group.name, group.inode) == 0
        assert group.inode not in hierarchy.counts()
        assert hierarchy.stat(group.name)
        sleeper = group.hog("pause")
        assert hierarchy.processes(group.name, 9) == [sleeper.pid]
        sleeper.kill()
        sleeper.wait()
