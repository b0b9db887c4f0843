"""Cgroup ids to paths, in trees that a test makes and in this machine's own cgroups."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator

import pytest
from doubles import skips

from otel_oom.receivers.storage import workloads
from otel_oom.receivers.storage.workloads import NOBODY_ID, ROOT_ID, Workloads

V1 = "cgroup {mount} cgroup rw,blkio 0 0"
V2 = "cgroup2 {mount} cgroup2 rw 0 0"


def host(tmp_path: pathlib.Path, *mounts: str) -> pathlib.Path:
    (tmp_path / "proc/self").mkdir(parents=True, exist_ok=True)
    (tmp_path / "cg").mkdir(exist_ok=True)
    lines = "".join(line.format(mount=tmp_path / "cg") + "\n" for line in mounts)
    (tmp_path / "proc/self/mounts").write_text(lines)
    return tmp_path


def make(root: pathlib.Path, path: str) -> int:
    directory = root / f"cg{path}"
    directory.mkdir(parents=True)
    return directory.stat().st_ino


def test_the_hierarchy_with_block_io_is_used(tmp_path: pathlib.Path) -> None:
    mount = str(tmp_path / "cg")
    assert workloads.find(host(tmp_path, V1)) == (1, mount)
    assert workloads.find(host(tmp_path, V2)) == (2, mount)
    assert workloads.find(host(tmp_path, "c /u cgroup2 rw 0 0", V1)) == (1, mount)
    assert workloads.find(host(tmp_path, "c /m cgroup rw,memory 0 0", V2)) == (2, mount)
    assert workloads.find(host(tmp_path, "c /m cgroup rw,memory 0 0")) == (0, "")
    assert workloads.find(tmp_path / "nothing") == (0, "")


def test_paths_are_found_in_the_tree(tmp_path: pathlib.Path) -> None:
    root = host(tmp_path, V2)
    pod, container = make(root, "/kube/pod 1"), make(root, "/kube/pod 1/c")
    found = Workloads(root)
    assert found.path(container) == "/kube/pod 1/c"
    assert found.path(pod) == "/kube/pod 1"
    assert found.path(ROOT_ID) == "/"
    assert found.path(NOBODY_ID) is None
    found.close()


def test_the_tree_is_looked_through_once_a_collection(tmp_path: pathlib.Path) -> None:
    root = host(tmp_path, V2)
    found = Workloads(root)
    assert found.path(2**60) is None
    late = make(root, "/late")
    assert found.path(late) is None
    found.refresh()
    assert found.path(late) == "/late"
    found.close()


def test_what_is_gone_keeps_its_path(tmp_path: pathlib.Path) -> None:
    root = host(tmp_path, V1)
    first, second = make(root, "/a"), make(root, "/b")
    found = Workloads(root)
    assert found.path(first) == "/a"
    (root / "cg/a").rmdir()
    found.refresh()
    assert found.gone([first, second, ROOT_ID, NOBODY_ID, 2**60]) == {first, 2**60}
    assert found.path(first) == "/a"
    found.close()


def test_another_cgroup_of_the_same_path_is_not_the_one_that_is_gone(
    tmp_path: pathlib.Path,
) -> None:
    root = host(tmp_path, V1)
    first = make(root, "/service")
    found = Workloads(root)
    assert found.path(first) == "/service"
    (root / "cg/service").rename(root / "elsewhere")
    second = make(root, "/service")
    found.refresh()
    assert found.gone([first, second]) == {first}
    assert found.path(second) == "/service"
    found.close()


def test_names_that_are_no_utf8_are_readable_and_not_gone(tmp_path: pathlib.Path) -> None:
    root = host(tmp_path, V1)
    inode = make(root, os.fsdecode(b"/a\xffb"))
    found = Workloads(root)
    assert found.path(inode) == "/a\\xffb"
    assert found.gone([inode]) == set()
    found.close()


def test_what_is_kept_is_bounded(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workloads, "_MOST_KEPT", 2)
    root = host(tmp_path, V1)
    inodes = [make(root, f"/{name}") for name in "abc"]
    found = Workloads(root)
    paths = []
    for inode in inodes:
        found.refresh()
        paths.append(found.path(inode))
    assert paths == ["/a", "/b", "/c"]
    assert len(found._paths) == 2
    found.close()


def test_without_a_hierarchy_nothing_is_known_and_nothing_is_gone(tmp_path: pathlib.Path) -> None:
    for root in (tmp_path, host(tmp_path, "cgroup2 /no/such/place cgroup2 rw 0 0")):
        found = Workloads(root)
        assert found.path(5) is None
        assert found.path(ROOT_ID) == "/"
        assert found.gone([5]) == set()
        found.close()
        found.close()


@pytest.fixture
def cgroup() -> Iterator[pathlib.Path]:
    if sentence := skips.root():
        pytest.skip(sentence)
    _, mount = workloads.find(pathlib.Path("/"))
    if not mount:
        pytest.skip("needs a cgroup hierarchy with block I/O: mount cgroup2, or blkio of cgroup v1")
    directory = pathlib.Path(mount) / f"otel-oom-workloads-{os.getpid()}"
    (directory / "inner").mkdir(parents=True)
    try:
        yield directory
    finally:
        for path in (directory / "inner", directory / "renamed", directory):
            if path.exists():
                path.rmdir()


@pytest.mark.root
@pytest.mark.parametrize("has_handles", [True, False])
def test_this_machines_cgroups(cgroup: pathlib.Path, *, has_handles: bool) -> None:
    """By handle, and by looking through the tree, as without CAP_DAC_READ_SEARCH."""
    found = Workloads(pathlib.Path("/"))
    assert found._has_handles
    found._has_handles = has_handles
    inode = (cgroup / "inner").stat().st_ino
    assert found.path(inode) == f"/{cgroup.name}/inner"
    (cgroup / "inner").rmdir()
    assert found.gone([inode]) == {inode}
    assert found.path(inode) == f"/{cgroup.name}/inner"
    found.close()


@pytest.mark.root
def test_a_renamed_cgroup_is_not_gone(cgroup: pathlib.Path) -> None:
    found = Workloads(pathlib.Path("/"))
    inode = (cgroup / "inner").stat().st_ino
    assert found.path(inode) == f"/{cgroup.name}/inner"
    try:
        (cgroup / "inner").rename(cgroup / "renamed")
    except OSError:
        pytest.skip("needs cgroup v1, where a cgroup can be renamed; this kernel uses v2 alone")
    assert found.gone([inode]) == set()
    assert found.path(inode) == f"/{cgroup.name}/renamed"
    found.close()
