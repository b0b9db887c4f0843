"""Device numbers to names, in trees like /sys that a test makes, and on this machine."""

from __future__ import annotations

import os
import pathlib

import pytest

from otel_oom.receivers.storage.devices import Device, Devices

VDA, VDA1, LOOP, DM = 254 << 20, 254 << 20 | 1, 7 << 20 | 3, 253 << 20


@pytest.fixture
def root(tmp_path: pathlib.Path) -> pathlib.Path:
    """A host with a disk and its partition."""
    for directory in ("sys/dev/block", "sys/block", "proc/self"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "proc/self/mounts").write_text("/dev/vda1 / ext4 rw 0 0\n")
    add(tmp_path, "vda", VDA)
    add(tmp_path, "vda/vda1", VDA1)
    (tmp_path / "sys/devices/block/vda/vda1/partition").write_text("1\n")
    return tmp_path


def add(root: pathlib.Path, path: str, number: int, sequence: int = 9) -> pathlib.Path:
    """A device as the kernel shows it: its directory, and a link by its number."""
    directory = root / "sys/devices/block" / path
    (directory / "slaves").mkdir(parents=True)
    major, minor = number >> 20, number & 0xFFFFF
    text = f"MAJOR={major}\nMINOR={minor}\nDEVNAME={directory.name}\nDISKSEQ={sequence}\n"
    (directory / "uevent").write_text(text)
    (root / f"sys/dev/block/{major}:{minor}").symlink_to(directory)
    if "/" not in path:
        (root / "sys/block" / path).symlink_to(directory)
    return directory


def loop(root: pathlib.Path, backing: str) -> pathlib.Path:
    directory = add(root, "loop3", LOOP)
    (directory / "loop").mkdir()
    (directory / "loop/backing_file").write_text(f"{backing}\n")
    return directory


def test_a_disk_and_its_partition_have_their_names(root: pathlib.Path) -> None:
    devices = Devices(root)
    assert devices.get(VDA) == Device("vda", "vda", is_stacked=False, is_told_of=True, sequence="9")
    assert devices.get(VDA1) == Device(
        "vda1", "vda", is_stacked=False, is_told_of=True, sequence="9"
    )
    assert devices.get(0xFFFFFFFF) is None


def test_a_device_may_come_later_and_go(root: pathlib.Path) -> None:
    devices = Devices(root)
    assert devices.get(DM) is None
    assert devices.gone([DM]) == {DM}
    add(root, "dm-0", DM)
    assert devices.get(DM) == Device(
        "dm-0", "dm-0", is_stacked=False, is_told_of=True, sequence="9"
    )
    assert devices.gone([DM, VDA]) == set()
    (root / "sys/dev/block/253:0").unlink()
    assert devices.gone([DM, VDA]) == {DM}
    assert devices.get(DM) is None


def test_another_device_of_the_same_number_is_told(root: pathlib.Path) -> None:
    devices = Devices(root)
    directory = add(root, "dm-0", DM, sequence=3)
    assert devices.get(DM) is not None
    text = (directory / "uevent").read_text()
    (directory / "uevent").write_text(text.replace("DISKSEQ=3", "DISKSEQ=4").replace("dm-0", "x"))
    assert devices.gone([DM]) == {DM}
    found = devices.get(DM)
    assert found is not None
    assert (found.name, found.sequence) == ("x", "4")


def test_a_device_over_others_is_stacked(root: pathlib.Path) -> None:
    (add(root, "dm-0", DM) / "slaves/vda").mkdir()
    found = Devices(root).get(DM)
    assert found is not None
    assert found.is_stacked


@pytest.mark.parametrize(
    ("mounts", "stacked"),
    [
        ("/dev/vda1 / ext4 rw 0 0", True),
        ("/dev/vda1 / btrfs rw 0 0", True),
        ("/dev/vda1 / ext4 rw 0 0\ntmpfs /a tmpfs rw 0 0", False),
        ("/dev/vda1 / ext4 rw 0 0\nslow /a fuse.slow rw 0 0", False),
        ("/dev/vda1 / ext4 rw 0 0\nslow /a fuseblk rw 0 0", True),
        ("/dev/vda1 / ext4 rw 0 0\nsrv:/x /a nfs4 rw 0 0", False),
        ("tmpfs / tmpfs rw 0 0\n/dev/vda1 /a ext4 rw 0 0", True),
        ("tmpfs / tmpfs rw 0 0\n/dev/vda1 /aa ext4 rw 0 0", False),
        ("tmpfs /a tmpfs rw 0 0\n/dev/vda1 /a xfs rw 0 0", True),  # the later one hides the other
        ("overlay / overlay rw 0 0", True),
        ("", True),  # not known: the same wait is told once at most
    ],
)
def test_a_loop_device_is_stacked_where_a_device_has_its_file(
    root: pathlib.Path, mounts: str, *, stacked: bool
) -> None:
    loop(root, f"{root}/a/disk.img")
    lines = mounts.replace(" /", f" {root}/").replace(f" {root}/ ", f" {root} ")
    (root / "proc/self/mounts").write_text(f"{lines}\n")
    found = Devices(root).get(LOOP)
    assert found is not None
    assert found.is_stacked == stacked


@pytest.mark.parametrize(
    ("patterns", "told"),
    [(["*"], True), (["vda"], True), (["vda1"], True), (["v*"], True), (["sd*", "nvme*"], False)],
)
def test_patterns_fit_the_device_or_its_disk(
    root: pathlib.Path, patterns: list[str], *, told: bool
) -> None:
    devices = Devices(root, patterns)
    found = devices.get(VDA1)
    assert found is not None
    assert found.is_told_of == told


def test_what_is_present_leaves_out_loops_without_a_file(root: pathlib.Path) -> None:
    add(root, "loop4", LOOP + 1)
    assert [disk.name for disk in Devices(root).present()] == ["vda"]
    loop(root, "/x")
    assert [disk.name for disk in Devices(root).present()] == ["loop3", "vda"]
    assert Devices(root / "nothing").present() == []


@pytest.mark.parametrize("text", ["", "DEVNAME", "DEVNAME=", "\0\xff"])
def test_a_uevent_that_says_nothing_is_no_device(root: pathlib.Path, text: str) -> None:
    (root / "sys/devices/block/vda/uevent").write_bytes(text.encode("latin-1"))
    assert Devices(root).get(VDA) is None


def test_this_machines_own_disks() -> None:
    """Held against what the kernel says elsewhere: /sys/block and the `dev` files."""
    root = pathlib.Path("/")
    devices = Devices(root)
    for disk in devices.present():
        major, _, minor = (root / "sys/block" / disk.name / "dev").read_text().partition(":")
        found = devices.get(int(major) << 20 | int(minor))
        assert found is not None
        assert found.name == disk.name
        assert os.path.basename(os.path.realpath(f"/sys/block/{found.disk}")) == disk.name  # noqa: PTH119
