"""What is known of the cluster: one source and one index for all pipelines of a processor.

A processor is made once for each pipeline; each of them asking the API server would be three
watches where one will do. Who first starts begins to ask, who last stops ends it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

from otel_oom import errors
from otel_oom.kubernetes.source import Source
from otel_oom.pipeline import accounting, component
from otel_oom.pipeline.component import State, Status
from otel_oom.processors.k8s_attributes import sources
from otel_oom.processors.k8s_attributes.association import Associator
from otel_oom.processors.k8s_attributes.config import Config
from otel_oom.processors.k8s_attributes.extraction import Extraction
from otel_oom.processors.k8s_attributes.index import Index

_LOOK_S = 0.05


class Cluster:
    """The source, the index that it fills, and what is made of it."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.associator = Associator(config.pod_association, config.exclude)
        self.index = Index(
            lambda: asyncio.get_running_loop().time(),
            grace_s=config.pod_delete_grace_period,
            more_keys=lambda entry: self.associator.keys(entry, self.extraction),
            changed=self._changed,
        )
        self.extraction = Extraction(config.extract, self.index)
        self.source: Source | None = None
        self._users: dict[object, Callable[[], None]] = {}
        self._task: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._failure = ""

    async def join(
        self, user: object, settings: component.Settings, on_change: Callable[[], None]
    ) -> None:
        """Begin to ask, unless someone did; `on_change` is called when more is known."""
        async with self._starting:
            if not self._users:
                self.source = await sources.make(self.config, settings.version)
                if self.source:
                    self._register(settings)
                    run = self._run(self.source, settings)
                    self._task = asyncio.create_task(run, name=settings.name)
            self._users[user] = on_change
        if self.source and self.config.wait_for_metadata:
            await self._wait(self.source)

    async def leave(self, user: object) -> None:
        """Stop asking, if nobody else is interested; no error if it was not joined."""
        if self._users.pop(user, None) is None or self._users:
            return
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    @property
    def is_synced(self) -> bool:
        """Whether all lists were complete once."""
        return self.source is not None and self.source.is_synced()

    def describe(self) -> str:
        """Who is asked and how that goes, on one line."""
        if self.source is None:
            return "nobody is asked: only what the cgroup's path tells"
        return self._failure or self.source.describe()

    def poke(self) -> None:
        """Let a source that polls ask at once: someone waits."""
        poke = getattr(self.source, "poke", None)
        if poke:
            poke()

    def _register(self, settings: component.Settings) -> None:
        """Once for all pipelines. Nothing here names a pod: there would be no end of series."""
        ledger, name, index = settings.ledger, settings.name, self.index
        ledger.gauge("k8s_pods", name, lambda: float(index.pods))
        ledger.gauge("k8s_containers", name, lambda: float(index.containers))
        ledger.gauge("k8s_evicted", name, lambda: float(index.evicted))
        ledger.gauge("k8s_requests", name, lambda: self._counted("requests"))
        ledger.gauge("k8s_changes", name, lambda: self._counted("changes"))
        ledger.gauge("k8s_errors", name, lambda: self._counted("errors"))

    def _counted(self, what: str) -> float:
        """What the source counts, if it does."""
        counts = getattr(self.source, "counts", None)
        return float(getattr(counts, what).total()) if counts else 0.0

    def _changed(self) -> None:
        for on_change in tuple(self._users.values()):
            on_change()

    async def _run(self, source: Source, settings: component.Settings) -> None:
        """Ask until cancelled; a source that gives up leaves what the path tells."""
        try:
            await source.run(self.index)
        except Exception as error:  # noqa: BLE001  # records must go on, and somebody must know
            self._failure = f"{source.describe()}: failed: {error}"
            settings.report(Status(State.PERMANENT_ERROR, self._failure))

    async def _wait(self, source: Source) -> None:
        try:
            async with asyncio.timeout(self.config.wait_for_metadata_timeout):
                while not source.is_synced():  # noqa: ASYNC110  # a source tells of lists alone
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise errors.ComponentError(
                f"`wait_for_metadata`: after {self.config.wait_for_metadata_timeout:g} s not all "
                f"pods are known ({self.describe()}); raise `wait_for_metadata_timeout`, or leave "
                "`wait_for_metadata` out to start without them"
            ) from None


_CLUSTERS: weakref.WeakKeyDictionary[accounting.Ledger, list[Cluster]] = weakref.WeakKeyDictionary()


def shared(ledger: accounting.Ledger, config: Config) -> Cluster:
    """The one cluster of an agent, known by its accounting, for equal options."""
    clusters = _CLUSTERS.setdefault(ledger, [])
    for cluster in clusters:
        if cluster.config == config:
            return cluster
    clusters.append(Cluster(config))
    return clusters[-1]
