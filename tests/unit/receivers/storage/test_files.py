"""The path of an operation's file: only that of the very file that the operation was about."""

from __future__ import annotations

import os
import pathlib

import pytest
from doubles import storage_record as made

from otel_oom.bpf.storage_operations_events import StorageFile
from otel_oom.receivers.storage import files, records


def operation(fd: int, inode: int | None = None, device: int | None = None) -> records.Operation:
    """An operation of this process on one of its descriptors."""
    found = os.fstat(fd)
    device = os.major(found.st_dev) << 20 | os.minor(found.st_dev) if device is None else device
    file = StorageFile(inode or found.st_ino, device, 0, fd, found.st_mode)
    return made.decoded(made.operation(30, file=file, tgid=os.getpid()))


@pytest.fixture
def paths() -> files.Files:
    return files.Files(pathlib.Path("/"))


def test_an_open_file_has_its_path(tmp_path: pathlib.Path, paths: files.Files) -> None:
    with (tmp_path / "a file").open("w") as opened:
        assert paths.path(operation(opened.fileno())) == str(tmp_path / "a file")


def test_another_file_behind_the_descriptor_is_not_it(
    tmp_path: pathlib.Path, paths: files.Files
) -> None:
    with (tmp_path / "a").open("w") as opened:
        assert paths.path(operation(opened.fileno(), inode=1)) is None
        assert paths.path(operation(opened.fileno(), device=1)) is None


def test_a_closed_file_has_no_path(tmp_path: pathlib.Path, paths: files.Files) -> None:
    with (tmp_path / "a").open("w") as opened:
        asked = operation(opened.fileno())
    assert paths.path(asked) is None


def test_a_deleted_file_has_the_path_that_it_had(
    tmp_path: pathlib.Path, paths: files.Files
) -> None:
    with (tmp_path / "a").open("w") as opened:
        (tmp_path / "a").unlink()
        assert paths.path(operation(opened.fileno())) == str(tmp_path / "a")


def test_a_file_that_is_called_deleted_is_not(tmp_path: pathlib.Path, paths: files.Files) -> None:
    with (tmp_path / "a (deleted)").open("w") as opened:
        assert paths.path(operation(opened.fileno())) == str(tmp_path / "a (deleted)")


def test_a_name_that_is_no_utf_8_is_readable(tmp_path: pathlib.Path, paths: files.Files) -> None:
    name = os.fsencode(tmp_path) + b"/\xff"
    fd = os.open(name, os.O_CREAT | os.O_WRONLY)
    try:
        assert paths.path(operation(fd)) == f"{tmp_path}/\\xff"
    finally:
        os.close(fd)
