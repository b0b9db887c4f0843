"""What can go wrong between an API server and who asks it: steps for `api_proxy.FaultyApi.fault`."""

from __future__ import annotations

import asyncio
import json

from doubles.api_proxy import Exchange, Step, forward

GONE = {
    "kind": "Status",
    "apiVersion": "v1",
    "metadata": {},
    "status": "Failure",
    "message": "too old resource version: 1 (2)",
    "reason": "Expired",
    "code": 410,
}
"""The object of a watch's ERROR event when the past is forgotten."""


async def silence(exchange: Exchange) -> None:
    """Take the request and never answer."""
    await asyncio.Event().wait()


async def reset(exchange: Exchange) -> None:
    """Reset the connection in place of an answer."""
    exchange.reset()


def status(code: int, reason: str, **headers: str) -> Step:
    """Answer a `Status` object as the API server does; `Retry_After="2"` is a header."""
    text = f"{reason} on purpose"
    said = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    body = json.dumps({**said, "message": text, "reason": reason, "code": code}).encode()

    async def step(exchange: Exchange) -> None:
        exchange.say(code, body, **headers)

    return step


def body(text: bytes, code: int = 200) -> Step:
    """Answer any bytes."""

    async def step(exchange: Exchange) -> None:
        exchange.say(code, text)

    return step


def raw(data: bytes) -> Step:
    """Answer what is not HTTP, and close."""

    async def step(exchange: Exchange) -> None:
        exchange.client.write(data)
        await exchange.client.drain()
        exchange.client.close()

    return step


def slowly(bytes_a_second: float) -> Step:
    """Pass the API server's answer on, byte by byte."""

    async def step(exchange: Exchange) -> None:
        await exchange.forward(1 / bytes_a_second)

    return step


def only(faulty: Step, *, watches: bool) -> Step:
    """Watches only, or all but watches; the others are passed on."""

    async def step(exchange: Exchange) -> None:
        chosen = exchange.request.is_watch is watches
        await (faulty if chosen else forward)(exchange)

    return step
