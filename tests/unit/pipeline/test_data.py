"""A batch is the same whether it came as a message or in its wire form."""

from __future__ import annotations

import pytest
from doubles import exporting
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from otel_oom.pipeline import weights
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.pipeline.sending import limits


def encoded(*names: str) -> Batch:
    """A batch in its wire form, with a log record of each name."""
    return Batch(Signal.LOGS, exporting.logs(*names).encoded(), len(names))


def test_what_came_encoded_is_sent_as_it_came() -> None:
    # A field that a message does not keep where it was: only bytes that were not parsed have it.
    came = LogsData().SerializeToString() + b"\x98\x06\x01" + exporting.logs("a").encoded()
    batch = Batch(Signal.LOGS, came, 1)
    assert [
        (part is batch, body) for part, body in limits.encoded_parts(batch, limits.protobuf)
    ] == [(True, came)]
    assert batch.copy().encoded() == came
    assert batch.data.resource_logs
    assert batch.encoded() != came


def test_who_asks_for_the_message_may_change_it() -> None:
    batch = encoded("a", "b")
    del batch.data.resource_logs[0].scope_logs[0].log_records[1:]
    assert batch.data is batch.data
    assert batch.encoded() == exporting.logs("a").encoded()


@pytest.mark.parametrize("is_parsed", [False, True])
def test_who_asks_for_the_same_encoding_gets_the_same_bytes_made_once(is_parsed: bool) -> None:
    batch, made = encoded("a", "b"), []
    assert not is_parsed or batch.data

    def encode(message: LogsData) -> bytes:
        made.append(message)
        return str(message).encode()

    first = batch.encoded_by(encode)
    assert batch.encoded_by(encode) is first
    assert batch.encoded() is batch.encoded()
    assert batch.encoded() == exporting.logs("a", "b").encoded()
    assert len(made) == 1

    del batch.data.resource_logs[:]
    assert batch.encoded_by(encode) == b""
    assert batch.encoded() == b""


@pytest.mark.parametrize("is_parsed", [False, True])
def test_a_copy_is_independent(is_parsed: bool) -> None:
    batch = encoded("a")
    assert not is_parsed or batch.data
    copy = batch.copy()
    assert copy == batch
    del copy.data.resource_logs[:]
    assert batch == exporting.logs("a")
    assert (copy.signal, copy.items) == (Signal.LOGS, 1)
    assert batch.weighing(7).copy().weight == 7


@pytest.mark.parametrize("is_parsed", [False, True])
def test_the_same_content_may_have_another_weight(is_parsed: bool) -> None:
    batch = encoded("a")
    assert not is_parsed or batch.data
    urgent = batch.weighing(10)
    assert (urgent, urgent.weight, batch.weight) == (batch, 10, weights.DEFAULT)
    assert urgent.weighing(10) is urgent


def test_the_parts_of_a_batch_have_its_weight() -> None:
    batch = exporting.logs("a", "b").weighing(9)
    parts = limits.encoded_parts(batch, limits.protobuf, len(batch.encoded()) - 1)
    assert [(part.items, part.weight) for part, _ in parts] == [(1, 9), (1, 9)]


def test_batches_are_equal_if_all_of_them_is() -> None:
    assert encoded("a") == exporting.logs("a")
    assert encoded("a") != exporting.logs("b")
    assert encoded("a") != Batch(Signal.LOGS, exporting.logs("a").encoded(), 2)
    assert encoded("a") != "a"
    assert "log_records" in repr(encoded("a"))


def test_what_a_batch_is_of_does_not_change() -> None:
    for field in ("signal", "items", "weight", "data"):
        with pytest.raises(AttributeError):
            setattr(encoded("a"), field, None)
