"""What an answer means, where no server is needed to ask."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_oom import errors
from otel_oom.http import message as http_message
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.otlp import status as otlp_status
from otel_oom.pipeline.sending.request import Answer


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120), (" 7 ", 7), ("0", 0), (None, None), ("", None), ("-1", None), ("1.5", None),
     ("99999999999999", None), ("tomorrow", None), ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
     ("Sunday, 06-Nov-94 08:49:37 GMT", 0), ("Sun Nov  6 08:49:37 1994", 0)],
)  # fmt: skip
def test_retry_after(text, seconds):
    assert otlp_status.retry_after_s(text) == seconds


def test_retry_after_as_a_date_is_from_now():
    date = email.utils.formatdate(time.time() + 1000, usegmt=True)

    assert 900 < otlp_status.retry_after_s(date) <= 1000


@given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d+ \d+:\d+:\d+ GMT"))
def test_retry_after_of_any_text_is_a_delay_or_nothing(text):
    delay_s = otlp_status.retry_after_s(text)

    assert delay_s is None or delay_s >= 0


@given(st.binary())
def test_any_bytes_as_grpc_details_are_a_delay_or_nothing(details):
    delay_s = otlp_status.retry_delay_s(details)

    assert delay_s is None or delay_s >= 0


@given(st.sampled_from(list(Signal)), st.binary())
def test_any_bytes_as_a_response_are_an_answer_or_permanent(signal, body):
    for parse in (otlp_status.parse_response, otlp_status.parse_json_response):
        with contextlib.suppress(errors.Permanent):
            assert isinstance(parse(signal, body), Answer)


@given(st.text() | st.binary())
def test_shown_text_is_one_short_printable_line(text):
    line = otlp_status.shown(text)

    assert line.isprintable()
    assert len(line) <= otlp_status.MAX_TEXT_CHARS + 1


@given(st.binary(max_size=300), st.booleans())
async def test_any_bytes_as_an_http_answer_are_a_response_or_an_error(data, with_head):
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" if with_head else b""
    reader = asyncio.StreamReader(limit=http_message.MAX_HEAD_BYTES)
    reader.feed_data(head + data)
    reader.feed_eof()
    try:
        response = await http_message.read_response(reader, lambda _status: 10)
    except (http_message.HttpError, EOFError):
        return
    assert len(response.body) <= 10
