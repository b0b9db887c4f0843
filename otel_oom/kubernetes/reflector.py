"""Objects from an API server: of each kind one list, then one watch of what changes.

The list is repeated only when the server no longer knows what came after it (410), or when
twice nothing comes that can be read. Every failure is counted, told once, and followed by a wait.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping

from otel_oom import errors
from otel_oom.kubernetes import targets
from otel_oom.kubernetes.api import Api
from otel_oom.kubernetes.backoff import Backoff
from otel_oom.kubernetes.counts import Counts
from otel_oom.kubernetes.decode import Change, Decoder, Event
from otel_oom.kubernetes.source import Kind, Object, Sink
from otel_oom.kubernetes.targets import Selection
from otel_oom.kubernetes.trim import Trim

_LOG = logging.getLogger(__name__)

WATCH_S = (240, 300)
"""Time in seconds after which the server is to end a watch, so that agents do not ask in step."""

SHORT_S = 1.0
"""A watch that ends sooner than this is a failure, even if the server calls it an end."""


class Reflector:
    """The `Source` that is an API server; `kinds` says of what, and which of them."""

    def __init__(
        self, api: Api, kinds: Mapping[Kind, Selection], *, trim: Trim | None = None
    ) -> None:
        self.counts = Counts()
        self._api = api
        shared = trim or Trim()
        self._followers = [
            _Follower(api, kind, which, Decoder(kind, shared), self.counts)
            for kind, which in kinds.items()
        ]

    async def run(self, sink: Sink) -> None:
        """Tell the sink of all objects and of every change, until it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for one in self._followers:
                    group.create_task(one.run(sink), name=f"kubernetes {one.kind}")
        finally:
            self._api.close()

    def is_synced(self) -> bool:
        """Whether each kind was listed once."""
        return all(one.is_synced for one in self._followers)

    def describe(self) -> str:
        """The server, and for each kind whether it is watched or what is wrong."""
        states = "; ".join(f"{one.kind} {one.state}" for one in self._followers)
        return f"API server {self._api.url}: {states}"


class _Follower:
    """One kind of object."""

    def __init__(
        self, api: Api, kind: Kind, which: Selection, decoder: Decoder, counts: Counts
    ) -> None:
        self.kind = kind
        self.is_synced = False
        self.state = "not listed yet"
        self._api, self._which, self._decoder, self._counts = api, which, decoder, counts
        self._backoff = Backoff()
        self._version = ""  # empty: a list is due
        self._stuck_version: str | None = None  # after which nothing came that can be read
        self._verb = "list"

    async def run(self, sink: Sink) -> None:
        while True:
            try:
                await self._list_and_watch(sink)
            except errors.KubernetesError as failure:
                self._note(failure)
                await asyncio.sleep(self._backoff.delay_s(failure.delay_s))

    async def _list_and_watch(self, sink: Sink) -> None:
        if not self._version:
            await self._list(sink)
        clock = asyncio.get_running_loop().time
        start_s = clock()
        await self._watch(sink)
        if clock() - start_s < SHORT_S:
            raise errors.KubernetesError("the server ended it at once", "short")

    async def _list(self, sink: Sink) -> None:
        """All pages of a list; its version is that of the first, after which changes count."""
        self._verb = "list"
        found: list[Object] = []
        version = token = ""
        while not version or token:
            page = self._decoder.page(await self._page(token))
            version = version or page.resource_version
            if not version:
                raise errors.KubernetesError("the list has no version", "garbage")
            self._count_undecodable(page.undecodable)
            found += page.objects
            token = page.continue_token
        sink.replace(self.kind, found)
        self._version, self.is_synced = version, True

    async def _page(self, token: str) -> bytes:
        self._counts.requests[self.kind, "list"] += 1
        from_cache = self._which.is_of_a_node() and not self.is_synced
        target = targets.list_target(self.kind, self._which, from_cache=from_cache, token=token)
        return await self._api.get(target, accept=targets.accepts(self.kind, lists=True))

    async def _watch(self, sink: Sink) -> None:
        """Follow the changes until the server ends the watch."""
        self._verb = "watch"
        self._counts.requests[self.kind, "watch"] += 1
        timeout_s = random.randint(*WATCH_S)  # noqa: S311  # spreads load, keeps no secret
        target = targets.watch_target(
            self.kind, self._which, version=self._version, timeout_s=timeout_s
        )
        accept = targets.accepts(self.kind, lists=False)
        async with self._api.watch(target, accept=accept) as lines:
            self._note_success()
            while (line := await lines.next()) is not None:
                self._take(self._decoder.event(line), sink)

    def _take(self, event: Event, sink: Sink) -> None:
        self._counts.changes[self.kind, event.change] += 1
        self._version = event.resource_version
        if event.found is None:
            self._count_undecodable(event.change is not Change.BOOKMARK)
        elif event.change is Change.DELETED:
            sink.remove(self.kind, event.found)
        else:
            sink.put(self.kind, event.found)

    def _count_undecodable(self, number: int) -> None:
        if not number:
            return
        if not self._counts.errors[self.kind, "undecodable"]:
            _LOG.warning("some of the %s are not as the API describes them: left out", self.kind)
        self._counts.errors[self.kind, "undecodable"] += number

    def _note(self, failure: errors.KubernetesError) -> None:
        """Count a failure, tell of it if it is another than the last, and see what follows."""
        self._counts.errors[self.kind, failure.reason] += 1
        if failure.reason == "gone" or self._is_stuck(failure):
            self._version = ""
        state = f"cannot {self._verb}: {failure}{self._remedy(failure)}"
        if state != self.state:
            level = logging.INFO if failure.reason == "gone" else logging.WARNING
            _LOG.log(level, "%s: %s %s", self._api.url, self.kind, state)
        self.state = state

    def _is_stuck(self, failure: errors.KubernetesError) -> bool:
        """Whether nothing that can be read has come after the same version twice.

        It may be an event that stays unreadable, or a server that was restored from a backup and
        is silent until it comes to our version again.
        """
        if failure.reason not in {"garbage", "too_large", "timeout"}:
            return False
        again = self._stuck_version == self._version
        self._stuck_version = self._version
        return again

    def _remedy(self, failure: errors.KubernetesError) -> str:
        if failure.reason != "forbidden":
            return ""
        group = targets.GROUPS.get(self.kind)
        where = f" of the API group {group}" if group else ""
        return f"; grant `{self._verb}` on `{self.kind}`{where} to the agent"

    def _note_success(self) -> None:
        if self.state != "watched":
            _LOG.info("%s: %s watched", self._api.url, self.kind)
            self.state = "watched"
