"""The command `otel-oom queue`, and storages for it to look after."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import pathlib
import sys
from typing import Any

from click import testing
from doubles import exporting, keeping

from otel_oom import cli, errors

QUEUE = "otlp_http/test"
"""The queue of `keeping.running`."""


@dataclasses.dataclass(frozen=True)
class Ended:
    """How it ended, and what it said."""

    status: int
    stdout: str
    stderr: str

    @property
    def storage(self) -> dict[str, Any]:
        """What `show --json` tells of the only storage."""
        assert self.status == 0, self.stderr
        (found,) = json.loads(self.stdout).values()
        return found


def command(*arguments: str | pathlib.Path) -> list[str]:
    return [sys.executable, "-P", "-m", "otel_oom", "queue", *map(str, arguments)]


def run(*arguments: str | pathlib.Path) -> Ended:
    """The command in this process, which is quicker; `command` is for one that is killed."""
    done = testing.CliRunner().invoke(cli.main, ["queue", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Ended(done.exit_code, done.stdout, done.stderr)


async def ask(*arguments: str | pathlib.Path) -> Ended:
    """The same beside a loop that goes on: an agent in this process."""
    return await asyncio.to_thread(run, *arguments)


async def fill(folder: pathlib.Path, *names: str, dead: tuple[str, ...] = ()) -> None:
    """Leave log records of these names in the queue, and others with its dead letters."""
    destination = keeping.Destination(is_up=False)
    async with keeping.running(folder, destination) as (agent, exporter):
        destination.refused = errors.Permanent("no such tenant")
        for name in dead:
            await agent.consume(exporter, exporting.logs(name))
        await keeping.until(lambda: "held" not in agent.sum())
        destination.refused = None
        for name in names:
            await agent.consume(exporter, exporting.logs(name))


async def send_all(folder: pathlib.Path) -> list[str]:
    """The names of what the next life of the agent sends, once it has sent all."""
    destination = keeping.Destination()
    async with keeping.running(folder, destination) as (agent, _):
        await keeping.until(lambda: "held" not in agent.sum())
    return names(destination)


def names(destination: keeping.Destination) -> list[str]:
    return [exporting.event_name(body) for body in destination.bodies]
