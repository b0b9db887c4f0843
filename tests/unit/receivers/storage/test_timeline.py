"""Where the time of an operation goes, for each cause of a wait and each layer."""

from __future__ import annotations

import pytest
from doubles import storage_record as made

from otel_oom.bpf.storage_operations_events import (
    StorageCall,
    StorageCause,
    StorageEvent,
    StorageRequestFlag,
    StorageWaitFlag,
)

LOG, QUEUED = StorageWaitFlag.LOG, StorageWaitFlag.QUEUED


def test_a_call_that_never_waited_is_the_system_calls() -> None:
    line = made.timed(made.operation(30))

    assert made.told(line) == [("syscall.enter", 0, "syscall"), ("syscall.exit", 30, "syscall")]


def test_on_the_cpu_time_belongs_to_where_the_call_is() -> None:
    at = {StorageEvent.FS_ENTER: 1, StorageEvent.WRITEBACK: 3, StorageEvent.FS_EXIT: 7}
    line = made.timed(made.operation(12, at=at))

    assert made.by_layer(line) == {"syscall": 1 + 5, "filesystem": 6}


def test_after_a_cache_miss_it_is_the_page_cache() -> None:
    at = {StorageEvent.CACHE_MISS: 2}
    line = made.timed(made.operation(10, at=at, call=StorageCall.READ))

    assert made.by_layer(line) == {"page_cache": 10}


def test_a_filesystem_that_reads_its_own_blocks_stays_the_filesystem() -> None:
    at = {StorageEvent.FS_ENTER: 1, StorageEvent.CACHE_MISS: 2, StorageEvent.FS_EXIT: 9}
    line = made.timed(made.operation(10, at=at))

    assert made.by_layer(line) == {"syscall": 2, "filesystem": 8}


def test_a_read_that_waits_for_its_request() -> None:
    by = made.request(start=1.2, issue=1.5, complete=20)
    line = made.timed(
        made.operation(
            25,
            [made.wait(2, 21, 24, by=by, queued=1)],
            {StorageEvent.CACHE_MISS: 0.5},
            call=StorageCall.READ,
        )
    )

    assert made.told(line) == [
        ("syscall.enter", 0, "syscall"),
        ("cache.miss", 0.5, "page_cache"),
        ("block.queued", 1, "page_cache"),
        ("block.started", 1.2, "page_cache"),
        ("block.issued", 1.5, "page_cache"),
        ("wait.sleep", 2, "page_cache"),
        ("block.completed", 20, "device"),
        ("wait.woken", 21, "device"),
        ("wait.run", 24, "wakeup"),
        ("syscall.exit", 25, "page_cache"),
    ]


@pytest.mark.parametrize(("scheduler", "layer"), [(True, "scheduler"), (False, "block_queue")])
def test_a_request_that_waits_to_be_issued(scheduler: bool, layer: str) -> None:
    by = made.request(start=1, issue=9, complete=11)
    line = made.timed(made.operation(12, [made.wait(2, 11, 12, by=by)]), scheduler=scheduler)

    assert made.by_layer(line) == {"syscall": 2, layer: 7, "device": 2, "wakeup": 1}


def test_a_bio_that_waits_for_its_request_is_in_the_block_queue() -> None:
    by = made.request(start=15, issue=16, complete=18)
    line = made.timed(made.operation(20, [made.wait(2, 18, 20, by=by)]), scheduler=True)

    assert made.by_layer(line) == {
        "syscall": 2,
        "block_queue": 13,
        "scheduler": 1,
        "device": 2,
        "wakeup": 2,
    }


def test_a_wait_for_a_tag_is_ended_by_the_request_of_another() -> None:
    by = made.request(start=-30, issue=-29, complete=18)
    line = made.timed(made.operation(20, [made.wait(2, 18, 19, by=by, queued=1, flags=QUEUED)]))

    assert made.by_layer(line) == {"syscall": 2 + 1, "block_queue": 16, "wakeup": 1}
    assert line.requests == []


def test_a_bio_that_is_held_back_until_a_timer_is_in_the_block_queue() -> None:
    line = made.timed(made.operation(20, [made.wait(2, 18, 19, flags=QUEUED)]))

    assert made.by_layer(line)["block_queue"] == 16


def test_the_cache_that_is_flushed_before_the_data_is_the_devices() -> None:
    by = made.request(start=2, issue=30, complete=31, flags=StorageRequestFlag.FLUSH)
    line = made.timed(made.operation(32, [made.wait(2, 31, 32, by=by)]), scheduler=True)

    assert made.by_layer(line) == {"syscall": 2, "device": 29, "wakeup": 1}


def test_a_queue_without_times_of_issue_is_named() -> None:
    by = made.request(start=3, complete=20)
    line = made.timed(made.operation(22, [made.wait(2, 20, 21, by=by)]), scheduler=True)

    assert made.by_layer(line)["device"] == 17
    assert [name for name, _ in line.missing] == ["block.issued"]


def test_what_a_worker_does_after_the_completion_is_the_filesystems() -> None:
    by = made.request(start=1, issue=1, complete=5)
    line = made.timed(made.operation(20, [made.wait(2, 18, 19, StorageCause.WORKER, by=by)]))

    assert made.by_layer(line) == {"syscall": 3, "device": 3, "filesystem": 13, "wakeup": 1}


@pytest.mark.parametrize(
    ("cause", "flags", "layer"),
    [
        (StorageCause.THROTTLED, 0, "page_cache"),
        (StorageCause.RECLAIM, 0, "memory"),
        (StorageCause.COMMIT, 0, "journal"),
        (StorageCause.UNKNOWN, LOG, "journal"),
        (StorageCause.UNKNOWN, 0, "filesystem"),
    ],
)
def test_a_wait_without_a_request(cause: StorageCause, flags: int, layer: str) -> None:
    line = made.timed(made.operation(20, [made.wait(2, 18, 19, cause, flags=flags)]))

    assert made.by_layer(line) == {"syscall": 3, layer: 16, "wakeup": 1}


def test_a_preempted_task_waits_for_a_cpu_alone() -> None:
    line = made.timed(made.operation(20, [made.wait(2, None, 19, StorageCause.PREEMPTED)]))

    assert made.by_layer(line) == {"syscall": 3, "wakeup": 17}
    assert line.missing == ()


def test_a_wake_up_that_was_not_seen_is_named() -> None:
    line = made.timed(made.operation(20, [made.wait(2, None, 19)]))

    assert made.by_layer(line) == {"syscall": 3, "filesystem": 17}
    assert [name for name, _ in line.missing] == ["wait.woken"]


def test_the_log_of_xfs_is_the_journals_until_its_request() -> None:
    by = made.request(start=8, issue=8, complete=14)
    at = {StorageEvent.FS_ENTER: 1, StorageEvent.LOG_FORCE: 1.5}
    waits = [made.wait(2, 18, 19, StorageCause.WORKER, by=by, flags=LOG)]
    line = made.timed(made.operation(20, waits, at))

    assert made.by_layer(line) == {
        "syscall": 1,
        "filesystem": 0.5,
        "journal": 0.5 + 6 + 4 + 1,
        "device": 6,
        "wakeup": 1,
    }


def test_an_fsync_is_split_by_the_commit_that_it_waited_for() -> None:
    data = made.request(start=24, issue=24, complete=30)
    record = made.request(start=32, issue=34, complete=44)
    joined = made.commit(
        46,
        [
            made.wait(12, 21, 22, transaction=5),
            made.wait(25, 30, 31, by=data),
            made.wait(33, 44, 45, by=record),
        ],
        begin=10,
        locking=11,
        flushing=23,
        logging=31.5,
    )
    waits = [made.wait(4, 47, 50, StorageCause.COMMIT, transaction=5)]
    line = made.timed(
        made.operation(52, waits, {StorageEvent.FS_ENTER: 1}, transaction=5), joined, scheduler=True
    )

    assert made.told(line) == [
        ("syscall.enter", 0, "syscall"),
        ("fs.enter", 1, "syscall"),
        ("wait.commit", 4, "filesystem"),
        ("journal.commit", 10, "journal"),
        ("journal.locking", 11, "journal"),
        ("journal.sleep", 12, "journal"),
        ("journal.woken", 21, "journal"),
        ("journal.run", 22, "wakeup"),
        ("journal.flushing", 23, "journal"),
        ("block.started", 24, "journal"),
        ("block.issued", 24, "journal"),
        ("journal.sleep", 25, "journal"),
        ("block.completed", 30, "device"),
        ("journal.woken", 30, "device"),
        ("journal.run", 31, "wakeup"),
        ("journal.logging", 31.5, "journal"),
        ("block.started", 32, "journal"),
        ("journal.sleep", 33, "journal"),
        ("block.issued", 34, "scheduler"),
        ("block.completed", 44, "device"),
        ("journal.woken", 44, "device"),
        ("journal.run", 45, "wakeup"),
        ("journal.committed", 46, "journal"),
        ("wait.woken", 47, "journal"),
        ("wait.run", 50, "wakeup"),
        ("syscall.exit", 52, "filesystem"),
    ]
    assert line.requests == [data, record]
    assert line.missing == ()


def test_a_phase_of_a_commit_that_is_many_short_waits_is_the_journals() -> None:
    requests = [made.request(start=at, issue=at, complete=at + 1.5) for at in (12, 14, 16, 18, 20)]
    waits = [
        made.wait(at, at + 1.5, at + 1.6, by=by)
        for at, by in zip((12, 14, 16, 18, 20), requests, strict=True)
    ]
    joined = made.commit(22, waits, begin=5, flushing=7, logging=11)
    raw = made.operation(
        24, [made.wait(4, 23, 24, StorageCause.COMMIT, transaction=5)], transaction=5
    )
    line = made.timed(raw, joined)

    assert ("journal.committed", 22, "journal") in made.told(line)
    assert made.by_layer(line) == {"syscall": 4, "journal": 19, "wakeup": 1}
    assert line.requests == requests


def test_of_a_commit_that_began_before_the_wait_its_rest_counts() -> None:
    by = made.request(start=-9, issue=-8, complete=30)
    joined = made.commit(32, [made.wait(-7, 30, 31, by=by)], begin=-20, locking=-19, logging=-10)
    waits = [made.wait(4, 33, 34, StorageCause.COMMIT, transaction=5)]
    line = made.timed(made.operation(34, waits, transaction=5), joined)

    assert made.told(line)[1:-1] == [
        ("wait.commit", 4, "syscall"),
        ("block.completed", 30, "device"),
        ("journal.woken", 30, "device"),
        ("journal.run", 31, "wakeup"),
        ("journal.committed", 32, "journal"),
        ("wait.woken", 33, "journal"),
        ("wait.run", 34, "wakeup"),
    ]


def test_an_earlier_commit_is_the_journals_whole() -> None:
    joined = made.commit(32, begin=20)
    earlier = made.wait(4, 18, 19, StorageCause.COMMIT, transaction=4)
    own = made.wait(19.5, 33, 34, StorageCause.COMMIT, transaction=5)
    line = made.timed(made.operation(34, [earlier, own], transaction=5), joined)

    assert ("wait.woken", 18, "journal") in made.told(line)
    assert ("journal.committed", 32, "journal") in made.told(line)
    assert line.missing == ()


def test_a_commit_whose_record_is_gone_is_named() -> None:
    waits = [made.wait(4, 33, 34, StorageCause.COMMIT, transaction=5)]
    line = made.timed(made.operation(34, waits, transaction=5))

    assert made.by_layer(line)["journal"] == 29
    assert [name for name, _ in line.missing] == ["journal.commit"]


def test_waits_that_were_not_kept_are_told() -> None:
    waits = [made.wait(2, 4, 4)]
    raw = made.operation(
        20, waits, all_waits=11, waited_ns=[5_000_000, 1_000_000, 0, 0, 0, 0, 0, 0]
    )
    line = made.timed(raw)

    assert line.left_out_ns == 4_000_000
    assert dict(line.missing)["storage.stages"].startswith("10 shorter waits, together 4.000 ms")


def test_reclaim_on_the_cpu_is_memorys_where_it_surely_was() -> None:
    waits = [made.wait(2, 4, 4)]
    line = made.timed(made.operation(24, waits, reclaim_ns=15_000_000))

    assert made.by_layer(line) == {"syscall": 2, "filesystem": 2, "memory": 20}


def test_reclaim_that_may_be_anywhere_is_nobodys() -> None:
    waits = [made.wait(10, 14, 14)]
    line = made.timed(made.operation(24, waits, reclaim_ns=11_000_000))

    assert made.by_layer(line) == {"syscall": 20, "filesystem": 4}


def test_a_request_that_another_task_made_in_an_earlier_wait_is_not_on_the_cpu() -> None:
    first = made.wait(2, 8, 9)
    second = made.wait(10, 20, 21, by=made.request(start=4, issue=5, complete=20))
    line = made.timed(made.operation(22, [first, second]))

    assert "block.issued" not in [name for name, _, _ in made.told(line)]
    assert made.by_layer(line)["device"] == 10


def test_times_that_overlap_are_clipped_into_the_wait() -> None:
    by = made.request(start=5, issue=3, complete=40)
    waits = [made.wait(2, 30, 20, by=by), made.wait(10, 15, 25)]
    line = made.timed(made.operation(24, waits))

    assert min(line.gaps_ns()) >= 0
    assert line.times_ns[-1] == made.ns(24)
