"""OTLP/JSON of every kind of field, read back by protobuf's own parser."""

from __future__ import annotations

import json
import math
import struct

import pytest
from doubles import otlp_json_reader
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, LogsData, ResourceLogs, ScopeLogs
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    MetricsData,
    NumberDataPoint,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status, TracesData

from otel_oom.pipeline import otlp
from otel_oom.pipeline.otlp import json as otlp_json

U64 = 2**64 - 1


def one_log(**fields):
    record = LogRecord(**fields)
    return LogsData(resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=[record])])])


def test_the_three_deviations_from_protobufs_mapping():
    text = otlp_json.encode(one_log(trace_id=bytes(range(16)), span_id=b"\xff" * 8, time_unix_nano=U64, severity_number=17))  # fmt: skip

    assert text == (
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"18446744073709551615",'
        b'"severityNumber":17,"traceId":"000102030405060708090a0b0c0d0e0f",'
        b'"spanId":"ffffffffffffffff"}]}]}]}'
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", {"stringValue": ""}),
        ("é\n\u2028", {"stringValue": "é\n\u2028"}),
        (False, {"boolValue": False}),
        (0, {"intValue": "0"}),
        (-(2**63), {"intValue": "-9223372036854775808"}),
        (0.0, {"doubleValue": 0.0}),
        (math.inf, {"doubleValue": "Infinity"}),
        (-math.inf, {"doubleValue": "-Infinity"}),
        (math.nan, {"doubleValue": "NaN"}),
        (b"", {"bytesValue": ""}),
        (b"\x00\xff", {"bytesValue": "AP8="}),
        ([], {"arrayValue": {}}),
        (["a", None], {"arrayValue": {"values": [{"stringValue": "a"}, {}]}}),
        ({"k": 1}, {"kvlistValue": {"values": [{"key": "k", "value": {"intValue": "1"}}]}}),
        (None, {}),
    ],
)
def test_values(value, expected):
    assert otlp_json.to_json(otlp.any_value(value)) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (NumberDataPoint(as_int=0), {"asInt": "0"}),
        (NumberDataPoint(as_double=0), {"asDouble": 0.0}),
        (HistogramDataPoint(sum=0, bucket_counts=[1, 2]), {"sum": 0.0, "bucketCounts": ["1", "2"]}),
        (ExponentialHistogramDataPoint(scale=-3), {"scale": -3}),
        (Span(kind=1, flags=257), {"kind": 1, "flags": 257}),
        (Span(parent_span_id=b"\x01" * 8), {"parentSpanId": "01" * 8}),
        (Span.Link(trace_id=b"\x02" * 16), {"traceId": "02" * 16}),
        (Status(code=2), {"code": 2}),
    ],
)
def test_fields_with_presence_are_written_and_defaults_left_out(message, expected):
    assert otlp_json.to_json(message) == expected


def test_a_line_has_no_line_break_whatever_is_in_it():
    text = otlp_json.encode(one_log(event_name="a\nb\r\x85\u2028\u2029c"))

    assert b"\n" not in text
    assert b"\r" not in text
    assert json.loads(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.text() | st.binary() | st.integers(-(2**63), 2**63 - 1)
    | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(attributes=st.dictionaries(st.text(), VALUES, max_size=4), time=st.integers(0, U64))
def test_any_attributes_come_back(attributes, time):
    data = one_log(attributes=otlp.key_values(attributes), time_unix_nano=time)

    assert_comes_back(data)


@given(data=st.data(), kind=st.sampled_from([LogsData, TracesData, MetricsData]))
def test_any_message_comes_back(data, kind):
    message = kind()
    _fill(data, message, depth=0)

    assert_comes_back(message)


def assert_comes_back(message):
    back = otlp_json_reader.parse(otlp_json.encode(message), type(message))
    assert _bits(back) == _bits(message)


def _bits(message):
    """A message's wire form; not-a-number has one form only in JSON."""
    message = type(message).FromString(message.SerializeToString())
    _one_nan(message)
    return message.SerializeToString(deterministic=True)


def _one_nan(message):
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                _one_nan(inner)
        elif field.type == field.TYPE_DOUBLE and not field.is_repeated and math.isnan(value):
            setattr(message, field.name, math.nan)
        elif field.type == field.TYPE_DOUBLE and field.is_repeated:
            value[:] = [math.nan if math.isnan(item) else item for item in value]


_INTEGERS = {
    "int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1), "sint32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1), "uint64": (0, U64), "sint64": (-(2**63), 2**63 - 1),
    "fixed32": (0, 2**32 - 1), "fixed64": (0, U64), "sfixed64": (-(2**63), 2**63 - 1),
}  # fmt: skip


def _strategy(field):
    name = {v: k[5:].lower() for k, v in vars(type(field)).items() if k.startswith("TYPE_")}
    kind = name.get(field.type, "")
    if kind in _INTEGERS:
        return st.integers(*_INTEGERS[kind])
    if field.enum_type:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return {"bool": st.booleans(), "string": st.text(max_size=5), "bytes": st.binary(max_size=16),
            "double": st.floats()}[kind]  # fmt: skip


def _fill(data, message, depth):
    """Set some fields of a message to something, by its descriptor."""
    for field in message.DESCRIPTOR.fields:
        if not data.draw(st.booleans()):
            continue
        if field.type == field.TYPE_MESSAGE:
            if depth < 9 and not (field.message_type.name == "AnyValue" and depth > 6):
                target = getattr(message, field.name)
                inner = target.add() if field.is_repeated else target
                if not field.is_repeated:
                    inner.SetInParent()
                _fill(data, inner, depth + 1)
        elif field.is_repeated:
            getattr(message, field.name).extend(data.draw(st.lists(_strategy(field), max_size=2)))
        else:
            setattr(message, field.name, data.draw(_strategy(field)))


def test_the_reader_refuses_what_is_no_otlp_json():
    """So that the round trips above prove something."""
    with pytest.raises(Exception, match="no field"):
        otlp_json_reader.parse(b'{"resource_log":[]}', LogsData)


def test_doubles_keep_every_bit():
    value = struct.unpack("<d", b"\x01\x02\x03\x04\x05\x06\x07\x08")[0]
    message = KeyValue(key="k", value=AnyValue(double_value=value))

    assert otlp_json_reader.parse(otlp_json.encode(message), KeyValue) == message
