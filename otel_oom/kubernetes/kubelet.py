"""A node's pods from its kubelet, which has them sooner than the API server, and no watch.

All pods are asked for every `interval_s`, and at once when someone misses one (`poke`). What
differs from the answer before is told; a pod whose answer is the same costs no memory twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from otel_oom import errors
from otel_oom.kubernetes.api import Api
from otel_oom.kubernetes.backoff import Backoff
from otel_oom.kubernetes.counts import Counts
from otel_oom.kubernetes.decode import Change, Decoder, Page
from otel_oom.kubernetes.source import Kind, Object, Sink
from otel_oom.kubernetes.trim import Trim

_LOG = logging.getLogger(__name__)

PATH = "/pods"
SOONEST_S = 0.25
"""Time in seconds between two polls at least, however often one is asked for."""


class Kubelet:
    """The `Source` that is a node's kubelet."""

    def __init__(self, api: Api, *, interval_s: float, trim: Trim | None = None) -> None:
        self.counts = Counts()
        self._api = api
        self._interval_s = interval_s
        self._decoder = Decoder(Kind.POD, trim or Trim())
        self._backoff = Backoff()
        self._poked = asyncio.Event()
        self._pods: dict[str, Object] = {}
        self._is_synced = False
        self._state = "not asked yet"

    async def run(self, sink: Sink) -> None:
        """Tell the sink of all pods and of every change, until it is cancelled."""
        try:
            while True:
                await self._poll(sink)
        finally:
            self._api.close()

    def poke(self) -> None:
        """Ask again as soon as may be: a container was seen whose pod is not known."""
        self._poked.set()

    def is_synced(self) -> bool:
        """Whether the kubelet has answered once."""
        return self._is_synced

    def describe(self) -> str:
        """The kubelet, and what is wrong with it if anything is."""
        return f"kubelet {self._api.url}: pods {self._state}"

    async def _poll(self, sink: Sink) -> None:
        """Ask once, and wait until it is time again."""
        self._poked.clear()  # before the question: who misses a pod now wants a later answer
        try:
            self._tell(await self._ask(), sink)
        except errors.KubernetesError as failure:
            self._note(failure)
            await asyncio.sleep(self._backoff.delay_s(failure.delay_s))
            return
        self._note_success()
        await asyncio.sleep(min(SOONEST_S, self._interval_s))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._interval_s - SOONEST_S)):
                await self._poked.wait()

    async def _ask(self) -> Page:
        self.counts.requests[Kind.POD, "get"] += 1
        return self._decoder.page(await self._api.get(PATH))

    def _tell(self, page: Page, sink: Sink) -> None:
        found = {pod.metadata.uid: pod for pod in page.objects}
        if page.undecodable:  # they are not gone, but which they are is not known
            if not self.counts.errors[Kind.POD, "undecodable"]:
                _LOG.warning("some pods are not as the API describes them: left out")
            self.counts.errors[Kind.POD, "undecodable"] += page.undecodable
            found = self._pods | found
        if not self._is_synced:
            self._pods, self._is_synced = found, True
            sink.replace(Kind.POD, list(found.values()))
            return
        for uid in self._pods.keys() - found.keys():
            self._count(Change.DELETED)
            sink.remove(Kind.POD, self._pods.pop(uid))
        for uid, pod in found.items():
            self._compare(uid, pod, sink)

    def _compare(self, uid: str, pod: Object, sink: Sink) -> None:
        before = self._pods.get(uid)
        if pod != before:
            self._count(Change.MODIFIED if before else Change.ADDED)
            self._pods[uid] = pod
            sink.put(Kind.POD, pod)

    def _count(self, change: Change) -> None:
        self.counts.changes[Kind.POD, change] += 1

    def _note(self, failure: errors.KubernetesError) -> None:
        """Count a failure, and tell of it if it is another than the last."""
        self.counts.errors[Kind.POD, failure.reason] += 1
        state = f"cannot be had: {failure}"
        if failure.reason == "forbidden":
            state += "; grant `get` on `nodes/proxy`, or on `nodes/pods` since Kubernetes 1.33"
        if state != self._state:
            _LOG.warning("kubelet %s: pods %s", self._api.url, state)
        self._state = state

    def _note_success(self) -> None:
        if self._state != "polled":
            _LOG.info("kubelet %s: pods polled", self._api.url)
            self._state = "polled"
