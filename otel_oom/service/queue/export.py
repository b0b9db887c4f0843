"""Writes what is kept as OTLP JSON, a request a line: what the collector's file receiver reads.

Nothing is removed before the file is on the disk: who is killed in between has it twice.
"""

from __future__ import annotations

import base64
import os
import pathlib
from collections.abc import AsyncIterator, Mapping
from typing import IO, Any, NamedTuple

from otel_oom import errors
from otel_oom.pipeline.data import MESSAGES, Signal
from otel_oom.pipeline.otlp import json as otlp_json
from otel_oom.service.queue.storage import Asked

_AT_ONCE = 1000
"""Requests that are removed in one transaction."""


class Exported(NamedTuple):
    """How much was written, and how many requests were too damaged for it."""

    requests: int
    items: int
    damaged: int


async def export(
    asked: Asked, table: str, queue: str | None, path: pathlib.Path, *, removes: bool
) -> Exported:
    """Write one storage's requests to a new file, and remove them from the storage if asked to."""
    if removes and table == "items" and asked.is_running:
        raise errors.ComponentError(
            "what waits belongs to the agent that runs: stop it first, or export without --remove"
        )
    requests = items = damaged = 0
    written: list[int] = []
    with path.open("xb") as file:
        async for one in _kept(asked, table, queue):
            if not one["is_whole"]:
                damaged += 1
                continue
            file.write(_line(one["signal"], base64.b64decode(one["body"])))
            written.append(one["id"])
            requests += 1
            items += one["items"]
        _settle(file, path)
    for start in range(0, len(written) if removes else 0, _AT_ONCE):
        await asked.ask("remove", table=table, ids=written[start : start + _AT_ONCE])
    return Exported(requests, items, damaged)


def _line(signal: str, body: bytes) -> bytes:
    """A request as a line; that of an exporter that sends JSON is it already."""
    is_json = body.startswith(b"{")  # which no protobuf message of ours does
    return (
        body if is_json else otlp_json.encode(MESSAGES[Signal(signal)].FromString(body))
    ) + b"\n"


async def _kept(asked: Asked, table: str, queue: str | None) -> AsyncIterator[Mapping[str, Any]]:
    after = 0
    while True:
        page = (await asked.ask("page", table=table, queue=queue, after=after))["kept"]
        for one in page:
            yield one
        if not page:
            return
        after = page[-1]["id"]


def _settle(file: IO[bytes], path: pathlib.Path) -> None:
    """Have the file, and its name, on the disk."""
    file.flush()
    os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_DIRECTORY | os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
