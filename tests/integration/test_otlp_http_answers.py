"""`otlp_http` and what a server answers: OTLP's rules of HTTP, to the letter."""

from __future__ import annotations

import asyncio
import email.utils
import time

import pytest
from doubles import exporting, otlp_server
from doubles.otlp_sides import exporter_of, outcome

from otel_oom.exporters import otlp_http

pytestmark = pytest.mark.usefixtures("no_proxies")


async def test_http_every_status_from_200_to_599(http_side):
    """All classes, by one exporter over one connection after the other: OTLP's table and no more."""
    again = {429, 502, 503, 504}
    expected, found = {}, {}
    async with exporter_of(otlp_http, **http_side.config()) as (agent, exporter):
        for status in range(200, 600):
            before, tries = agent.sum(), len(http_side.server.received)
            http_side.server.script[:] = [otlp_server.http_reply(status)]
            await agent.consume(exporter, exporting.logs("a"))
            after = await exporting.settled(agent)
            fate = next(name for name in after if after[name] != before.get(name, 0))
            found[status] = fate, len(http_side.server.received) - tries
            is_taken = status < 300 or status in again
            expected[status] = "delivered" if is_taken else "rejected", 1 + (status in again)

    assert found == expected


@pytest.mark.parametrize(("status", "kind"), [(429, "seconds"), (503, "date")])
async def test_http_retry_after_is_waited_for(http_side, status, kind):
    """A date has whole seconds: three of them are two at least."""
    date = email.utils.formatdate(time.time() + 3, usegmt=True)
    headers = {"Retry-After": "2" if kind == "seconds" else date}
    http_side.server.script[:] = [otlp_server.http_reply(status, headers=headers)]
    async with exporter_of(otlp_http, **http_side.config()) as (agent, exporter):
        began_s = asyncio.get_running_loop().time()
        await agent.consume(exporter, exporting.logs("a"))

        assert await exporting.settled(agent) == {"delivered": 1}
        assert asyncio.get_running_loop().time() - began_s >= 1.8


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_http_any_success_is_taken(http_side, status):
    assert (await outcome(http_side, otlp_server.http_reply(status)))[:2] == ({"delivered": 3}, 1)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_http_redirects_are_not_followed(http_side, status):
    step = otlp_server.http_reply(status, headers={"Location": "http://elsewhere.invalid/v1/logs"})
    sums, requests, agent = await outcome(http_side, step)

    assert (sums, requests) == ({"rejected": 3}, 1)
    assert "http://elsewhere.invalid/v1/logs" in agent.statuses[0].detail


@pytest.mark.parametrize("status", [429, 503])
async def test_http_retry_after_in_seconds_beyond_the_time_left_gives_up(http_side, status):
    step = otlp_server.http_reply(status, headers={"Retry-After": "1000000000"})

    assert (await outcome(http_side, step))[:2] == ({"retries_exhausted": 3}, 1)


@pytest.mark.parametrize("status", [429, 503])
async def test_http_retry_after_as_a_date_beyond_the_time_left_gives_up(http_side, status):
    date = email.utils.formatdate(time.time() + 7200, usegmt=True)
    step = otlp_server.http_reply(status, headers={"Retry-After": date})

    assert (await outcome(http_side, step))[:2] == ({"retries_exhausted": 3}, 1)


@pytest.mark.parametrize("value", ["0", "Wed, 21 Oct 2015 07:28:00 GMT", "soon", "-5", "1e9", ""])
async def test_http_retry_after_that_asks_for_no_delay(http_side, value):
    step = otlp_server.http_reply(503, headers={"Retry-After": value})

    assert (await outcome(http_side, step))[:2] == ({"delivered": 3}, 2)


@pytest.mark.parametrize("status", [502, 504])
async def test_http_retry_after_counts_only_where_otlp_defines_it(http_side, status):
    step = otlp_server.http_reply(status, headers={"Retry-After": "1000000000"})

    assert (await outcome(http_side, step))[:2] == ({"delivered": 3}, 2)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (otlp_server.status_details(3, "no such tenant"), "application/x-protobuf"),
        (b'{"code":3,"message":"no such tenant"}', "application/json; charset=utf-8"),
        (b"no such\r\n\x1b[31m tenant", "text/plain"),
        (b"no such tenant \xff", "application/json"),
    ],
    ids=["protobuf", "json", "text with an escape", "broken json"],
)
async def test_http_the_servers_reason_is_shown_on_one_clean_line(http_side, body, kind):
    _, _, agent = await outcome(http_side, otlp_server.http_reply(400, body, kind=kind))

    detail = agent.statuses[0].detail
    assert detail.startswith("the server answered 400: no such")
    assert "tenant" in detail
    assert detail.isprintable()


async def test_http_a_page_of_a_portal_is_no_success(http_side):
    step = otlp_server.http_reply(200, b"<html>log in</html>", kind="text/html")
    sums, _, agent = await outcome(http_side, step)

    assert sums == {"rejected": 3}
    assert "text/html" in agent.statuses[0].detail


@pytest.mark.parametrize("count", ['"2"', "2"])
async def test_http_partial_success_in_json(http_side, count):
    body = b'{"partialSuccess":{"rejectedLogRecords":%s,"errorMessage":"old"}}' % count.encode()
    step = otlp_server.http_reply(200, body, kind="application/json")

    assert (await outcome(http_side, step))[:2] == ({"delivered": 1, "rejected": 2}, 1)


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"partialSuccess":7}', b"[" * 100_000])
async def test_http_a_json_answer_that_is_no_otlp_is_rejected(http_side, body):
    step = otlp_server.http_reply(200, body, kind="application/json")

    assert (await outcome(http_side, step))[:2] == ({"rejected": 3}, 1)
