"""The operator's requests to the queues of one storage, from within its agent or beside it.

Both sides of the socket speak through here, and so does a tool that has opened the storage itself.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from otel_oom import errors
from otel_oom.pipeline.durable import operations
from otel_oom.pipeline.durable.database import Database
from otel_oom.pipeline.durable.items import Total

Added = Callable[[list[Total]], None]
"""How the exporter of a queue hears of what was put back into it."""

Message = Mapping[str, Any]
"""What JSON can hold."""


class Requests:
    """Answers requests; `listeners` are the queues of exporters that run."""

    def __init__(self, database: Database, listeners: Mapping[str, Added]) -> None:
        self._database = database
        self._listeners = listeners
        self._known: dict[str, Callable[[Message], Awaitable[Message]]] = {
            "show": self._show,
            "page": self._page,
            "remove": self._remove,
            "retry": self._retry,
        }

    async def answer(self, request: Message) -> Message:
        """The answer; `error` in it says why there is none."""
        act = self._known.get(str(request.get("command")))
        if act is None:
            return {"error": f"unknown command; known are {', '.join(self._known)}"}
        try:
            return await act(request)
        except (errors.StorageError, KeyError, TypeError, ValueError) as error:
            return {"error": f"{error}"}

    async def _show(self, _: Message) -> Message:
        return dataclasses.asdict(await self._database.read(operations.overview))

    async def _page(self, request: Message) -> Message:
        table, queue, after = _table(request), request.get("queue"), int(request["after"])
        found = await self._database.read(
            lambda connection: operations.page(connection, table, queue, after)
        )
        kept = [one._asdict() | {"body": base64.b64encode(one.body).decode()} for one in found]
        return {"kept": kept}

    async def _remove(self, request: Message) -> Message:
        table, ids = _table(request), [int(one) for one in request["ids"]]
        if table == "items" and self._listeners:
            return {"error": "what waits belongs to the agent that runs; stop it first"}
        await self._database.write(
            lambda connection: operations.remove(connection, table, ids), is_critical=True
        )
        return {"removed": len(ids)}

    async def _retry(self, request: Message) -> Message:
        work = functools.partial(operations.retry, queue=request.get("queue"))
        returned = await self._database.write(work, is_critical=True)
        for queue, totals in returned.totals.items():
            if queue in self._listeners:
                self._listeners[queue](totals)
        items = sum(one.items for totals in returned.totals.values() for one in totals)
        requests = sum(one.requests for totals in returned.totals.values() for one in totals)
        return {"requests": requests, "items": items, "damaged": returned.damaged}


def _table(request: Message) -> operations.Table:
    return "dead_letters" if request.get("table") == "dead_letters" else "items"
