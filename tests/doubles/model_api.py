"""An API server as its documentation has it, without a network, so that it runs in virtual time.

It keeps objects, their history, and lists of the past to be continued; what a test puts into
`faults` befalls the next request or the watch that is open. The real one is `kube_apiserver`.
"""

from __future__ import annotations

import asyncio
import bisect
import collections
import contextlib
import operator
import urllib.parse
from collections.abc import AsyncIterator

from doubles import kube_json

from otel_oom import errors

BOOKMARK_S = 60.0
SILENCE_S = 90.0
MOST_CHANGES = 1024
"""Of history: enough for any test, and not so many that they are what grows."""

REFUSALS = {
    "401": errors.KubernetesError("401 Unauthorized", "unauthorized"),
    "403": errors.KubernetesError("403 Forbidden", "forbidden"),
    "410": errors.KubernetesError("410 Expired", "gone"),
    "429": errors.KubernetesError("429 TooManyRequests", "throttled", delay_s=7.0),
    "500": errors.KubernetesError("500 InternalError", "server_error"),
    "reset": errors.KubernetesError("lost the connection", "connection"),
}
"""Faults of any request; `garbage` and `silence` are others, `end` is one of a watch."""


class ModelApi:
    """Speaks as `kubernetes.api.Api` does."""

    url = "https://model:6443"

    def __init__(self) -> None:
        self.objects: dict[str, kube_json.Json] = {}
        self.version = 1
        self.requests: list[tuple[float, str, dict[str, str]]] = []
        """When, `list` or `watch`, and the query."""
        self.faults: collections.deque[str] = collections.deque()
        self._history: list[tuple[int, bytes]] = []
        self._compacted = 0
        self._snapshots: dict[int, list[kube_json.Json]] = {}
        self._changed = asyncio.Event()

    def put(self, name: str) -> None:
        """Make or change an object of which there is nothing to know."""
        self.store(kube_json.partial("Pod", name))

    def store(self, found: kube_json.Json) -> None:
        """Make or change an object; it gets the next version."""
        self.version += 1
        name = found["metadata"]["name"]
        found["metadata"]["resourceVersion"] = str(self.version)
        change = "MODIFIED" if name in self.objects else "ADDED"
        self.objects[name] = found
        self._tell(change, found)

    def delete(self, name: str) -> None:
        """Delete an object, if it is there."""
        if name in self.objects:
            self.version += 1
            last = self.objects.pop(name)
            last["metadata"]["resourceVersion"] = str(self.version)
            self._tell("DELETED", last)

    def compact(self) -> None:
        """Forget what was: older versions are gone, for new watches and for lists to go on."""
        self._compacted = self.version
        self._snapshots.clear()

    def fault(self, name: str) -> None:
        """Let something happen to the open watch, or to the next request."""
        self.faults.append(name)
        self._wake()

    def versions(self) -> dict[str, str]:
        """Names and versions of what there is."""
        return {name: found["metadata"]["resourceVersion"] for name, found in self.objects.items()}

    def close(self) -> None:
        """Nothing is open."""

    async def get(self, target: str, *, accept: str) -> bytes:
        """A page of a list."""
        query = self._note("list", target)
        if fault := await self._fault():
            return fault
        version, _, start = query.get("continue", f"{self.version}.0").partition(".")
        if "continue" not in query:
            self._snapshots[self.version] = list(self.objects.values())
        if (items := self._snapshots.get(int(version))) is None:
            raise REFUSALS["410"]
        end = int(start) + int(query["limit"])
        more = f"{version}.{end}" if end < len(items) else ""
        return kube_json.listed(items[int(start) : end], version=int(version), more=more)

    @contextlib.asynccontextmanager
    async def watch(self, target: str, *, accept: str) -> AsyncIterator[ModelWatch]:
        """What changes after a version."""
        query = self._note("watch", target)
        first = await self._fault()
        if int(query["resourceVersion"]) < self._compacted:
            raise REFUSALS["410"]
        yield ModelWatch(self, int(query["resourceVersion"]), float(query["timeoutSeconds"]), first)

    def next_after(self, version: int) -> tuple[int, bytes] | None:
        """The first change after a version, if there was one."""
        index = bisect.bisect_right(self._history, version, key=operator.itemgetter(0))
        return self._history[index] if index < len(self._history) else None

    async def changed(self) -> None:
        """Wait until something happens."""
        await self._changed.wait()

    def _note(self, verb: str, target: str) -> dict[str, str]:
        parts = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(parts.query))
        self.requests.append((asyncio.get_running_loop().time(), verb, query))
        return query

    async def _fault(self) -> bytes | None:
        """Suffer the next fault, if any; garbage is returned."""
        name = self.faults.popleft() if self.faults else ""
        if name in REFUSALS:
            raise REFUSALS[name]
        if name == "silence":
            await asyncio.sleep(SILENCE_S)
            raise errors.KubernetesError("no answer", "timeout")
        return b'{"kind": "garb' if name == "garbage" else None

    def _tell(self, change: str, found: kube_json.Json) -> None:
        self._history.append((self.version, kube_json.event(change, found)))
        if len(self._history) > 2 * MOST_CHANGES:
            del self._history[:MOST_CHANGES]
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class ModelWatch:
    """An open watch."""

    def __init__(self, api: ModelApi, version: int, timeout_s: float, first: bytes | None) -> None:
        self._api, self._version, self._first = api, version, first
        self._end_s = asyncio.get_running_loop().time() + timeout_s

    async def next(self) -> bytes | None:
        """The next event; a bookmark if there was none for a minute; None at the end."""
        if (first := self._first) is not None:
            self._first = None
            return first
        deadline_s = min(asyncio.get_running_loop().time() + BOOKMARK_S, self._end_s)
        while not (found := self._api.next_after(self._version)):
            if self._api.faults:
                return await self._suffer()
            try:
                async with asyncio.timeout_at(deadline_s):
                    await self._api.changed()
            except TimeoutError:
                if deadline_s == self._end_s:
                    return None
                return kube_json.bookmark(max(self._version, self._api.version))
        self._version = found[0]
        return found[1]

    async def _suffer(self) -> bytes | None:
        name = self._api.faults.popleft()
        if name == "end":
            return None
        if name == "410":
            return kube_json.event("ERROR", kube_json.status(410, "Expired"))
        if name == "silence":
            await asyncio.sleep(SILENCE_S)
            raise errors.KubernetesError("no event", "timeout")
        if name == "garbage":
            return b'{"type": "ADD'
        raise REFUSALS["reset"]
