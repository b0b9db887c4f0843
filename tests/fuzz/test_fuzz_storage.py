"""Any bytes from the ring are an operation or a `BadRecord`; of any operation the sums close."""

from __future__ import annotations

import contextlib
from typing import Any

from doubles import storage_record as made
from doubles import storage_told
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_oom import errors
from otel_oom.bpf.storage_operations_events import (
    StorageCall,
    StorageCause,
    StorageEvent,
    StorageOperation,
    StorageWait,
)
from otel_oom.pipeline import data
from otel_oom.receivers.storage import asynchronous, records, slow, timeline, verdict

END = 40
WHOLE = made.packed(
    made.operation(30, [made.wait(2, 20, 21, StorageCause.COMMIT, transaction=5)], transaction=5),
    made.commit(19, [made.wait(9, 17, 18, by=made.request(8, 10, 17))], begin=7, flushing=8),
)
TIMES = st.integers(-5, END + 5)
SEEN = st.none() | TIMES
KNOWN = [cause for cause in StorageCause if cause <= StorageCause.RECLAIM]


@st.composite
def waits(draw: st.DrawFn) -> StorageWait:
    """A wait whose times may contradict each other as far as a decoder lets them."""
    sleep, run = sorted((draw(TIMES), draw(TIMES)))
    by = made.request(draw(SEEN), draw(SEEN), draw(SEEN), flags=draw(st.integers(0, 15)))
    return made.wait(
        sleep,
        draw(SEEN),
        run,
        draw(st.sampled_from(KNOWN)),
        by=by,
        queued=draw(SEEN),
        flags=draw(st.integers(0, 7)),
        transaction=draw(st.integers(4, 6)),
    )


@st.composite
def operations(draw: st.DrawFn, **fields: Any) -> StorageOperation:
    """An operation, or a commit, of any waits and events."""
    begin, end = sorted((draw(TIMES), draw(TIMES)))
    inner = [event for event in StorageEvent if event not in (0, StorageEvent.EXIT, 12)]
    kept = draw(st.lists(waits(), max_size=made.WAITS))
    return made.operation(
        end,
        kept,
        draw(st.dictionaries(st.sampled_from(inner), TIMES)),
        begin=begin,
        all_waits=len(kept) + draw(st.integers(0, 3)),
        transaction=draw(st.integers(0, 6)),
        reclaim_ns=draw(st.sampled_from([0, 1, 10**7, 10**9])),
        flags=draw(st.integers(0, 1)),
        submitter=draw(st.sampled_from([0, 41])),
        **fields,
    )


def check(operation: records.Operation) -> None:
    """What holds of each timeline."""
    stages = asynchronous if asynchronous.is_asynchronous(operation) else timeline
    line = stages.of(operation, lambda device: bool(device % 2))
    times = line.times_ns
    assert (times[0], times[-1]) == (operation.start_ns, operation.end_ns)
    assert times == sorted(times)
    assert sum(line.gaps_ns()) == operation.duration_ns
    found = verdict.Judge(stage_ns=0, total_ns=0).judge(line)
    assert found is not None
    assert 0 <= found.gap_ns <= operation.duration_ns
    assert 0 <= found.share <= 1
    one = slow.of_call(operation, line, found, storage_told.known())
    logs, spans = storage_told.encoder().batches([one], storage_told.TO_UNIX_NS, 0)
    assert (data.count_items(logs.data), data.count_items(spans.data)) == (1, 1)


@settings(max_examples=400, deadline=None)
@given(operations(), st.none() | operations(call=StorageCall.COMMIT))
def test_the_gaps_of_any_operation_sum_to_the_whole(
    raw: StorageOperation, joined: StorageOperation | None
) -> None:
    check(made.decoded(raw, joined))


@settings(max_examples=200, deadline=None)
@given(operations())
def test_what_is_off_the_cpu_of_a_call_is_no_more_than_the_waits(raw: StorageOperation) -> None:
    operation = made.decoded(raw)
    line = timeline.of(operation, lambda _device: False)
    gaps = zip(line.gaps_ns(), line.kinds[1:], strict=True)
    off_ns = sum(gap_ns for gap_ns, kind in gaps if not kind.is_running)
    assert off_ns <= sum(wait.run_ns - wait.sleep_ns for wait in operation.waits)


@given(st.binary(max_size=len(WHOLE) + 8))
def test_any_bytes(record: bytes) -> None:
    with contextlib.suppress(errors.BadRecord):
        check(records.decode(record))


@given(st.integers(0, len(WHOLE) - 1))
def test_a_record_that_is_cut(size: int) -> None:
    with contextlib.suppress(errors.BadRecord):
        records.decode(WHOLE[:size])
        raise AssertionError(size)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=12))
def test_a_record_some_of_whose_bytes_are_others(changes: list[tuple[int, int]]) -> None:
    record = bytearray(WHOLE)
    for at, value in changes:
        record[at] = value
    with contextlib.suppress(errors.BadRecord):
        check(records.decode(bytes(record)))
