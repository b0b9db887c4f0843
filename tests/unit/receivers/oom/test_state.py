"""What one run leaves for the next, on a file system that does not always cooperate."""

from __future__ import annotations

import json
import logging
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_oom.receivers.oom.state import Saved, Store

SAVED = Saved("boot", 5, {2**53 + 1: 3, 7: 2}, 1_770_000_000_000_000_000)
FILE = "oom.json"


def test_what_was_saved_is_loaded_in_the_same_boot(tmp_path: pathlib.Path) -> None:
    Store(tmp_path).save(SAVED)
    assert Store(tmp_path).load("boot") == SAVED


def test_another_boot_has_other_counters(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    Store(tmp_path).save(SAVED)
    assert Store(tmp_path).load("another") is None
    assert caplog.records == []


def test_no_file_is_the_first_run(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    assert Store(tmp_path / "never made").load("boot") is None
    assert caplog.records == []


def test_a_missing_directory_is_made(tmp_path: pathlib.Path) -> None:
    Store(tmp_path / "a" / "b").save(SAVED)
    assert Store(tmp_path / "a" / "b").load("boot") == SAVED


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"null",
        b"[]",
        b"7",
        b'"boot"',
        b"{}",
        b'{"version": 1}',
        b'{"version": 1, "boot_id": "boot"}',
        b'{"version": 1, "boot_id": "boot", "cgroups": [], "kills": 1, "saved_unix_ns": 1}',
        b'{"version": 1, "boot_id": "boot", "cgroups": {"x": 1}, "kills": 1, "saved_unix_ns": 1}',
        b'{"version": 1, "boot_id": "boot", "cgroups": {}, "kills": null, "saved_unix_ns": 1}',
        b'{"version": 1, "boot_id": "boot", "cgroups": {}, "kills": 1e999, "saved_unix_ns": 1}',
        b"[" * 100_000,
    ],
)
def test_a_file_that_cannot_be_used_is_said_and_lived_with(
    tmp_path: pathlib.Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE).write_bytes(content)
    assert Store(tmp_path).load("boot") is None
    (said,) = caplog.messages
    assert "kills since the last run are not reported" in said
    assert str(tmp_path / FILE) in said


@given(st.binary(max_size=80))
def test_no_bytes_in_the_file_stop_the_agent(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    directory = tmp_path_factory.mktemp("state")
    (directory / FILE).write_bytes(content)
    assert Store(directory).load("boot") is None


def test_another_version_of_the_file_is_not_guessed_at(tmp_path: pathlib.Path) -> None:
    Store(tmp_path).save(SAVED)
    content = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps(content | {"version": 2}))
    assert Store(tmp_path).load("boot") is None


def test_a_directory_that_cannot_be_written_is_said_once_until_it_works_again(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    blocked = tmp_path / "state"
    blocked.write_text("a file where the directory should be")
    store = Store(blocked)
    store.save(SAVED)
    store.save(SAVED)
    (said,) = caplog.messages
    assert "give it a writable `state_directory`" in said
    assert caplog.records[0].levelno == logging.WARNING
    blocked.unlink()
    store.save(SAVED)
    assert Store(blocked).load("boot") == SAVED
    assert len(caplog.messages) == 1


def test_the_file_is_replaced_as_a_whole(tmp_path: pathlib.Path) -> None:
    """A reader that has it open sees the old content to its end, and nothing is left over."""
    store = Store(tmp_path)
    store.save(SAVED)
    with (tmp_path / FILE).open() as reader:
        store.save(Saved("boot", 6, {}, 2))
        assert json.load(reader)["kills"] == 5
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    loaded = Store(tmp_path).load("boot")
    assert loaded is not None
    assert loaded.kills == 6


def test_a_half_written_temporary_file_of_a_killed_agent_is_no_harm(tmp_path: pathlib.Path) -> None:
    (tmp_path / "oom.tmp").write_text('{"version": 1, "boo')
    store = Store(tmp_path)
    assert store.load("boot") is None
    store.save(SAVED)
    assert Store(tmp_path).load("boot") == SAVED


def test_time_alone_is_not_written(tmp_path: pathlib.Path) -> None:
    store = Store(tmp_path)
    store.save(SAVED)
    (tmp_path / FILE).unlink()
    store.save(Saved("boot", 5, SAVED.cgroups, 99))
    assert not (tmp_path / FILE).exists()
    store.save(Saved("boot", 5, {7: 3}, 99))
    assert (tmp_path / FILE).exists()
