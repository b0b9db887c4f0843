"""An asynchronous operation's stages, and its link: whatever the times of a record say."""

from __future__ import annotations

import pytest
from doubles import storage_record as made
from doubles import storage_told as told

from otel_oom.bpf.storage_operations_events import StorageRequestFlag
from otel_oom.receivers.storage import asynchronous, encode, slow

FLUSH = StorageRequestFlag.FLUSH


def stages(end: float, *, scheduler: bool = False, **request: float) -> made.Stages:
    """Of an operation that is queued at 0."""
    by = made.request(**{"start": 1, "issue": 2, "complete": end, **request})  # type: ignore[arg-type]
    operation = made.decoded(made.asynchronous(end, by))
    return made.told(asynchronous.of(operation, lambda _device: scheduler))


def test_from_its_queue_to_its_end() -> None:
    assert stages(20, start=1, issue=5) == [
        ("block.queued", 0, "block_queue"),
        ("block.started", 1, "block_queue"),
        ("block.issued", 5, "block_queue"),
        ("block.completed", 20, "device"),
    ]


def test_with_a_scheduler_the_time_before_the_driver_is_its() -> None:
    assert stages(20, issue=15, scheduler=True)[2] == ("block.issued", 15, "scheduler")


def test_what_waits_for_a_flush_waits_for_the_device() -> None:
    assert stages(20, issue=15, flags=FLUSH, scheduler=True)[2] == ("block.issued", 15, "device")


@pytest.mark.parametrize(
    ("start", "issue", "expected"),
    [(-5, -3, [0, 0, 0, 20]), (3, 1, [0, 3, 3, 20]), (30, 40, [0, 20, 20, 20])],
)
def test_times_that_contradict_are_clipped(start: int, issue: int, expected: list[int]) -> None:
    assert [time_ms for _, time_ms, _ in stages(20, start=start, issue=issue)] == expected


def test_what_the_queue_does_not_keep_is_named() -> None:
    by = made.request(start=None, issue=None, complete=20)
    line = asynchronous.of(made.decoded(made.asynchronous(20, by)), lambda _device: False)

    assert [stage[0] for stage in made.told(line)] == ["block.queued", "block.completed"]
    assert [name for name, _ in line.missing] == ["block.started", "block.issued"]


def test_only_what_is_flagged_is_asynchronous() -> None:
    assert asynchronous.is_asynchronous(made.decoded(made.asynchronous(20, made.request())))
    assert not asynchronous.is_asynchronous(made.decoded(made.operation(20)))


def test_it_links_to_the_call_that_submitted_it() -> None:
    raw = made.asynchronous(25, made.request(1, 2, 25))
    (span,) = told.of([(raw, None)])
    (submit,) = told.of([(made.submission(30), None)])

    assert span["span.links"] == [[*submit["span.ids"], {"storage.overlap": encode.SUBMITTER}]]
    assert span["span.ids"] != submit["span.ids"]
    assert span["span.attributes"]["storage.flags"] == [slow.ASYNCHRONOUS]
    assert "storage.flags" not in submit["span.attributes"]


def test_parts_of_one_submission_have_ids_of_their_own() -> None:
    parts = [made.asynchronous(25, made.request(1, 2, 25), number=n) for n in (43, 44)]
    one, other = told.of([(part, None) for part in parts])

    assert one["span.ids"] != other["span.ids"]
    assert one["span.links"] == other["span.links"]


def test_a_file_that_nothing_tells_is_named_as_missing() -> None:
    raw = made.asynchronous(25, made.request(1, 2, 25), file=made.NO_FILE)
    (span,) = told.of([(raw, None)])

    assert "file.inode" not in span["span.attributes"]
    assert [text.split(":")[0] for text in span["span.attributes"]["storage.missing"]] == [
        "file.inode"
    ]


def test_without_a_file_it_is_counted_for_the_device_of_its_request() -> None:
    by = made.request(1, 2, 25, device=7)
    unknown = made.decoded(made.asynchronous(25, by, file=made.NO_FILE))
    known = made.decoded(made.asynchronous(25, by))

    assert (unknown.counted_device, known.counted_device) == (7, made.DISK)
    assert made.decoded(made.operation(25, file=made.NO_FILE)).counted_device == 0
