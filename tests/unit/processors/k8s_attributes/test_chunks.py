"""A batch cut at its resources: nothing of what is below them is lost or changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, ResourceLogs, ScopeLogs

from otel_oom.pipeline import otlp
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.otlp import wire
from otel_oom.processors.k8s_attributes import chunks

texts = st.text(max_size=200)
attributes = st.dictionaries(
    texts, st.one_of(texts, st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
)


@st.composite
def batches(draw: st.DrawFn) -> LogsData:
    message = LogsData()
    for _ in range(draw(st.integers(0, 4))):
        holder = ResourceLogs(schema_url=draw(texts))
        holder.resource.attributes.extend(otlp.key_values(draw(attributes)))
        holder.resource.dropped_attributes_count = draw(st.integers(0, 300))
        for _ in range(draw(st.integers(0, 3))):
            records = [
                LogRecord(time_unix_nano=draw(st.integers(0, 2**64 - 1)), event_name=draw(texts))
                for _ in range(draw(st.integers(0, 3)))
            ]
            holder.scope_logs.append(ScopeLogs(log_records=records, schema_url=draw(texts)))
        message.resource_logs.append(holder)
    return message


@given(batches())
def test_what_is_read_and_written_is_the_same(message: LogsData) -> None:
    content = message.SerializeToString()
    read = list(chunks.read(content))
    assert [each.resource for each in read] == [
        holder.resource.SerializeToString() for holder in message.resource_logs
    ]
    assert LogsData.FromString(b"".join(map(chunks.write, read))) == message
    records = [sum(len(s.log_records) for s in h.scope_logs) for h in message.resource_logs]
    assert [chunks.items(Signal.LOGS, each) for each in read] == records


@given(batches(), texts)
def test_another_resource_leaves_all_below_it(message: LogsData, text: str) -> None:
    for chunk, holder in zip(
        chunks.read(message.SerializeToString()), message.resource_logs, strict=True
    ):
        added = wire.message(1, otlp.key_value("added", text).SerializeToString())
        written = LogsData.FromString(
            chunks.write(chunks.Chunk(chunk.resource + added, chunk.below))
        )
        (found,) = written.resource_logs
        assert found.scope_logs == holder.scope_logs
        assert found.schema_url == holder.schema_url
        assert found.resource.attributes[-1].value.string_value == text


def test_a_resource_that_stands_last_or_twice_is_one() -> None:
    first, second = (otlp.key_value(key, "v").SerializeToString() for key in ("first", "second"))
    scope = wire.message(2, ScopeLogs(schema_url="s").SerializeToString())
    body = (
        wire.message(1, wire.message(1, first)) + scope + wire.message(1, wire.message(1, second))
    )
    (chunk,) = chunks.read(wire.message(1, body))
    written = LogsData.FromString(chunks.write(chunk))
    assert written == LogsData.FromString(wire.message(1, body))


@given(st.binary(max_size=60))
def test_what_is_no_message_is_an_error_and_nothing_else(content: bytes) -> None:
    try:
        found = list(wire.fields(content))
    except ValueError:
        return
    for number, tag, start, end in found:
        assert 0 <= tag < start <= end <= len(content)
        assert number >= 0


@pytest.mark.parametrize("content", [b"\x0a", b"\x0a\x05ab", b"\x0b", b"\x80", b"\x09\0\0"])
def test_a_message_that_is_cut_is_an_error(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut|of no field"):
        list(wire.fields(content))
