"""The receiver `oom`, running for a test, and what it has sent so far.

async with oom_capture.running(tmp_path) as agent:
    group.hog("eat=100M").wait()
    kill = await agent.kill()
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import pathlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

from doubles import memory_cgroup
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_oom.config.types import ComponentId
from otel_oom.pipeline import accounting, component, otlp
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.receivers import oom
from otel_oom.receivers.oom.config import Config

PATIENCE_S = 20.0
"""How long a test waits before it says that something did not come; no test times it."""


@dataclasses.dataclass(frozen=True)
class Kill:
    """One log record, its attributes decoded."""

    log: LogRecord

    @property
    def attributes(self) -> dict[str, Any]:
        return otlp.attributes(self.log.attributes)

    def __getitem__(self, key: str) -> Any:
        return self.attributes[key]

    @property
    def missing(self) -> dict[str, str]:
        """`oom.missing` as name to reason."""
        lines = self.attributes.get("oom.missing", [])
        return dict(line.split(": ", 1) for line in lines)


def told(kills: list[Kill]) -> int:
    """Kills that records tell of, one by one or from a counter."""
    return sum(k.attributes.get("oom.missed.count", 1) for k in kills)


class Agent:
    """What the receiver has sent."""

    def __init__(self, config: Config, within: str) -> None:
        self._within = within
        self.ledger = accounting.Ledger()
        self.statuses: list[component.Status] = []
        self.kills: list[Kill] = []
        self.spans: list[Span] = []
        self.metrics: list[Any] = []
        self._changed = asyncio.Event()
        settings = component.Settings(
            id=ComponentId("oom"),
            ledger=self.ledger,
            report=self.statuses.append,
            board=None,  # type: ignore[arg-type]  # a receiver asks nothing of it
            version="test",
        )
        self.receiver = oom.OomReceiver(settings, config, dict.fromkeys(Signal, self))

    async def consume(self, batch: Batch) -> None:
        if batch.signal is Signal.LOGS:
            for resource in batch.data.resource_logs:
                found = [Kill(log) for s in resource.scope_logs for log in s.log_records]
                self.kills += [kill for kill in found if self._is_ours(kill.log)]
        elif batch.signal is Signal.TRACES:
            for resource in batch.data.resource_spans:
                ended = [span for scope in resource.scope_spans for span in scope.spans]
                self.spans += filter(self._is_ours, ended)
        else:
            self.metrics.append(batch.data)
        self.ledger.delivered("sink", batch.signal, batch.items)
        self._changed.set()

    def _is_ours(self, item: LogRecord | Span) -> bool:
        path = otlp.attributes(item.attributes).get("process.linux.cgroup", "")
        return str(path).startswith(self._within)

    def identities(self) -> dict[str, int]:
        """The terms of the books' summary by a short name."""
        words = (
            r"victims (?P<reported>\d+) \+ lost in the ring (?P<lost>\d+) = marks (?P<marks>\d+) "
            r"- repeated (?P<repeats>\d+); kernel's kills (?P<kernel>\d+) in "
            r"\[(?P<least>\d+), (?P<most>\d+)\] \(already dying (?P<dying>\d+)"
        )
        (line,) = self.receiver.summary()
        found = re.match(words, line)
        assert found, line
        counted = re.search(r"; (\d+) kills told from the counters", line)
        numbers = {name: int(number) for name, number in found.groupdict().items()}
        return numbers | {"counted": int(counted[1]) if counted else 0}

    def kills_metric(self) -> int:
        """The metric `oom.kills` as it was sent last, over all its attributes."""
        (metric,) = self.metrics[-1].resource_metrics[0].scope_metrics[0].metrics
        assert metric.name == "oom.kills"
        return sum(point.as_int for point in metric.sum.data_points)

    def books_close(self) -> bool:
        """Whether both identities hold; what the kernel counted beyond them must be told.

        Others on this machine may be killed between the first reading and the attaching.
        """
        lines = self.receiver.summary()
        if len(lines) > 1 or not lines[0].startswith("victims"):
            return all(map(_closes, lines))
        of = self.identities()
        own = of["reported"] + of["lost"] == of["marks"] - of["repeats"]
        return own and of["least"] <= of["kernel"] <= of["most"] + of["counted"]

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until it holds; say what did not come if it never does."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    self._changed.clear()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._changed.wait(), 0.05)
        except TimeoutError:
            raise AssertionError(f"{what} did not come; there are {self.kills}") from None

    async def kill(self, pid: int | None = None) -> Kill:
        """The record of a process, or the only one there is."""
        await self.until(lambda: bool(self._of(pid)), f"the record of pid {pid}")
        (found,) = self._of(pid)
        return found

    def _of(self, pid: int | None) -> list[Kill]:
        return [k for k in self.kills if pid is None or k.attributes.get("process.pid") == pid]

    def differences(self) -> list[int]:
        return [self.ledger.balance(signal).difference for signal in Signal]


def _closes(line: str) -> bool:
    """Whether the line of one mode closes, among several."""
    numbers = [int(number) for number in re.findall(r"-?\d+", line)]
    counted = re.search(r"; (\d+) kills told from the counters", line)
    told = int(counted[1]) if counted else 0
    if line.startswith("counter:"):
        kills, told, rest = numbers
        return kills == told + rest and rest >= 0
    if line.startswith("kmsg:"):
        victims, lines, repeats, kills, *_ = numbers
        return victims == lines - repeats and victims <= kills
    reported, lost, marks, repeats, kills, least, *_ = numbers
    return reported + lost == marks - repeats and kills >= least


@contextlib.asynccontextmanager
async def running(
    state: pathlib.Path, *, within: memory_cgroup.MemoryCgroup | None = None, **options: Any
) -> AsyncIterator[Agent]:
    """Start the receiver with its books in `state`; stop it, and see that the sums close."""
    path = within.name if within else ""
    agent = Agent(Config(state_directory=str(state), **options), path)
    await agent.receiver.start()
    try:
        yield agent
    finally:
        await agent.receiver.shutdown()
    assert agent.differences() == [0, 0, 0]
    assert agent.books_close(), agent.receiver.summary()
