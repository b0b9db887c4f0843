"""What is written in the wire form is what protobuf writes of the equal message."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from otel_oom.pipeline import otlp
from otel_oom.pipeline.otlp import wire, wire_values

ATTRIBUTES = 6
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=300)
VALUES = {
    "string": TEXTS,
    "boolean": st.booleans(),
    "int": INT64 | st.sampled_from([0, 127, 128, 2**14 - 1, 2**14, 2**28, -1]),
    "double": st.floats(allow_nan=False),
    "string[]": st.lists(TEXTS, max_size=20),
    "map[]": st.lists(st.fixed_dictionaries({"pid": INT64, "name": TEXTS}), max_size=20),
}
TYPES = {f"a.{kind}": kind for kind in VALUES} | {"k" * 200: "int"}
MAP = wire_values.attributes(1, {"pid": "int", "name": "string"})
LOG = wire_values.attributes(ATTRIBUTES, TYPES)

attributes = st.lists(st.sampled_from(sorted(TYPES)), unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: VALUES[TYPES[key]] for key in keys})
)


def written(forms: dict[str, wire_values.Attribute], values: dict[str, Any]) -> bytes:
    """Attributes in their wire form, which is the same whether they are kept or not."""
    kept = b"".join(forms[key][value] for key, value in values.items())
    assert kept == b"".join(forms[key].of(value) for key, value in values.items())
    return kept


def prepared(kind: str, value: Any) -> Any:
    """A value as the encoder takes it: an array is its elements."""
    if kind == "string[]":
        return wire_values.text_elements(value)
    if kind == "map[]":
        return b"".join(wire_values.map_element(written(MAP, entry)) for entry in value)
    return value


@given(attributes)
def test_attributes_are_written_as_protobuf_writes_them(values: dict[str, Any]) -> None:
    ready = {key: prepared(TYPES[key], value) for key, value in values.items()}
    encoded = written(LOG, ready)
    message = LogRecord(attributes=otlp.key_values(values))
    assert LogRecord.FromString(encoded) == message
    assert encoded == message.SerializeToString()


@given(st.integers(-(2**63), 2**64 - 1))
def test_a_varint_is_read_as_the_same_number(number: int) -> None:
    signed = number - 2**64 if number >= 2**63 else number
    encoded = wire.integer(3, number)
    assert AnyValue.FromString(encoded).int_value == signed
    assert encoded == AnyValue(int_value=signed).SerializeToString()


@given(TEXTS)
def test_a_text(text: str) -> None:
    content = text.encode()
    encoded = wire_values.before_text(5)[len(content)] + content
    assert encoded == LogRecord(body=AnyValue(string_value=text)).SerializeToString()


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 2_097_152])
def test_a_message_of_any_length(size: int) -> None:
    content = b"x" * size
    assert AnyValue.FromString(wire.message(7, content)).bytes_value == content


@pytest.mark.parametrize("number", [0, 1, 2**63, 2**64 - 1, 2**64, 2**64 + 5])
def test_eight_bytes_never_fail(number: int) -> None:
    record = LogRecord.FromString(wire.tag(1, wire.EIGHT_BYTES) + wire.eight_bytes(number))
    assert record.time_unix_nano == number % 2**64


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**64 * 4096])
def test_an_int_beyond_64_bits_is_a_string_as_elsewhere(number: int) -> None:
    encoded = written(LOG, {"a.int": number})
    message = LogRecord(attributes=[otlp.key_value("a.int", number)])
    assert encoded == message.SerializeToString()
    assert written(LOG, {"a.int": 1}) != encoded  # the key itself stays one of ints


def test_more_numbers_than_are_kept() -> None:
    for number in range(10_000):
        encoded = written(MAP, {"pid": number * 977, "name": ""})
        (pair, _) = KeyValueList.FromString(encoded).values
        assert pair.value.int_value == number * 977


def test_a_key_of_no_known_type_is_refused() -> None:
    with pytest.raises(KeyError):
        wire_values.attributes(ATTRIBUTES, {"a.key": "not a type"})
