"""Ends of the agent that nobody chose, among real kills: each is told, and noted as told."""

from __future__ import annotations

import collections
import json
import pathlib
import signal
import threading
import time
from collections.abc import Callable
from typing import Self

import pytest
from doubles import confined_agent, memory_cgroup
from doubles.memory_cgroup import kill

from otel_oom.receivers.oom import reconcile

pytestmark = pytest.mark.root


class Killer:
    """Kills in a cgroup, one after the other, until it is told to stop."""

    def __init__(self, group: memory_cgroup.MemoryCgroup) -> None:
        self._group = group
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            kill(self._group)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def begin(folder: pathlib.Path) -> list[confined_agent.ConfinedAgent]:
    """A first run, after which every kill is somebody's to tell."""
    with confined_agent.started(folder) as agent:
        agent.wait_until_running()
        assert agent.stop() == 0
    return [agent]


def told_by(agents: list[confined_agent.ConfinedAgent], name: str) -> tuple[int, int]:
    """Kills told of a cgroup, and from counters of no known cgroup."""
    own = [r for agent in agents for r in agent.kills(name)]
    pids = collections.Counter(r["process.pid"] for r in own if "process.pid" in r)
    assert max(pids.values(), default=1) == 1, "a process told twice"
    placeless = [r for agent in agents for r in agent.records() if "process.linux.cgroup" not in r]
    return (
        sum(r.get("oom.missed.count", 1) for r in own),
        sum(r["oom.missed.count"] for r in placeless),
    )


def test_an_agent_that_is_stopped_and_started_among_kills_tells_each_once(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    agents = begin(tmp_path)
    with Killer(group):
        for _ in range(3):
            with confined_agent.started(tmp_path) as agent:
                agents.append(agent)
                agent.wait_until_running()
                agent.wait_for_kills(group.name, 5)
                assert agent.stop() == 0, agent.log()
    with confined_agent.started(tmp_path) as agent:
        agents.append(agent)
        agent.wait_until_running()
        kills = group.oom_kills()
        wait(lambda: sum(told_by(agents, group.name)) >= kills)
        assert agent.stop() == 0
    own, placeless = told_by(agents, group.name)
    assert own <= kills <= own + placeless


def test_an_agent_that_is_killed_among_kills_loses_none(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    """What it had not told, the next one tells.

    What it had not noted as told, that one tells again, from the counter.
    """
    noted = doubled = 0
    agents = begin(tmp_path)
    with Killer(group):
        for count in (3, 9, 30):
            with confined_agent.started(tmp_path) as agent:
                agents.append(agent)
                agent.wait_until_running()
                agent.wait_for_kills(group.name, count)
                assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
                own, placeless = told_by(agents, group.name)
                noted = noted_as_told(tmp_path, group)
                assert noted <= own - doubled + placeless, "noted as told, and not told"
                doubled = max(0, own - noted)
    with confined_agent.started(tmp_path) as agent:
        agents.append(agent)
        agent.wait_until_running()
        kills = group.oom_kills()
        wait(lambda: sum(told_by(agents, group.name)) >= kills + doubled)
        assert agent.stop() == 0
    own, placeless = told_by(agents, group.name)
    assert own <= kills + doubled <= own + placeless


def test_an_agent_that_is_killed_in_peace_has_noted_all(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    with confined_agent.started(tmp_path) as first:
        first.wait_until_running()
        for _ in range(3):
            kill(group)
        first.wait_for_kills(group.name, 3)
        wait(lambda: noted_as_told(tmp_path, group) == 3)
        first.stop(signal.SIGKILL)
    kill(group)
    with confined_agent.started(tmp_path) as second:
        second.wait_until_running()
        (missed,) = second.wait_for_kills(group.name, 1)
        assert second.stop() == 0
    assert missed["oom.missed.count"] == 1
    assert missed["oom.missed.reason"] == reconcile.AGENT_DOWN
    assert sum(told_by([first, second], group.name)) >= group.oom_kills() == 4


def test_an_agent_whose_books_cannot_be_kept_says_so_and_tells_kills(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    with confined_agent.started(tmp_path) as agent:
        agent.wait_until_running()
        kill(group)
        agent.wait_for_kills(group.name, 1)
        assert agent.stop() == 0
        log = agent.log()
    assert log.count("give it a writable `state_directory`") == 1
    assert "Traceback" not in log


def noted_as_told(folder: pathlib.Path, group: memory_cgroup.MemoryCgroup) -> int:
    """Kills of the cgroup that the next start will not tell of."""
    books = json.loads((folder / "state" / "oom.json").read_text())
    return int(books["cgroups"].get(str(group.inode), 0))


def wait(condition: Callable[[], bool]) -> None:
    """Until it holds, or for as long as patience lasts: what follows says what is wrong."""
    deadline = time.monotonic() + confined_agent.PATIENCE_S
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
