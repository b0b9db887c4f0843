"""The command `otel-oom queue`: parse, call, print, exit status; the rest is in service/queue/."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import click

from otel_oom import errors

if TYPE_CHECKING:
    from otel_oom.service.queue.storage import Asked
    from otel_oom.service.settings import AgentConfig

_FAILED, _BAD_CONFIG = 1, 2


class Place:
    """Where the storages are: what the options say."""

    def __init__(
        self, sources: tuple[str, ...], sets: tuple[str, ...], directory: pathlib.Path | None
    ) -> None:
        self._sources = sources
        self._sets = sets
        self._directory = directory

    def config(self) -> AgentConfig:
        """The agent's configuration."""
        from otel_oom.service import config as configs  # noqa: PLC0415

        if self._directory is not None:
            raise click.UsageError("this needs the agent's --config, and not --directory")
        return configs.load(self._sources, self._sets, os.environ)

    def directories(self) -> dict[str, pathlib.Path]:
        """Each storage's, by its name."""
        from otel_oom.service.queue import storage  # noqa: PLC0415

        if self._directory is not None:
            return {"file_storage": self._directory}
        return storage.directories(self.config())

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[dict[str, Asked]]:
        """All of them, to be asked."""
        from otel_oom.service.queue import storage  # noqa: PLC0415

        async with contextlib.AsyncExitStack() as stack:
            yield {
                name: await stack.enter_async_context(storage.opened(directory))
                for name, directory in self.directories().items()
            }


def _run(work: Coroutine[Any, Any, int]) -> None:
    """Do it, and leave with its status or with what is wrong."""
    import asyncio  # noqa: PLC0415

    try:
        sys.exit(asyncio.run(work))
    except errors.ConfigError as error:
        click.echo(error, err=True)
        sys.exit(_BAD_CONFIG)
    except (errors.ComponentError, errors.StorageError, OSError) as error:
        click.echo(error, err=True)
        sys.exit(_FAILED)


def _place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say where the storages are, as one argument `place`."""

    @functools.wraps(command)
    def placed(
        *,
        sources: tuple[str, ...],
        sets: tuple[str, ...],
        directory: pathlib.Path | None,
        **rest: Any,
    ) -> Any:
        return command(Place(sources, sets, directory), **rest)

    for option in (
        click.option("--config", "sources", multiple=True, metavar="FILE", help="The agent's own."),
        click.option("--set", "sets", multiple=True, metavar="KEY=VALUE", help="As for `run`."),
        click.option(
            "--directory",
            type=click.Path(path_type=pathlib.Path),
            help="The storage's directory, in place of --config.",
        ),
    ):
        placed = option(placed)
    return placed


@click.group()
def queue() -> None:
    """Look after the queues on a disk: of an agent that runs, or of one that does not."""


@queue.command()
@_place_options
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def show(place: Place, *, as_json: bool) -> None:
    """Show what waits, how old it is, and what destinations have refused for good."""
    _run(_show(place, as_json=as_json))


@queue.command()
@_place_options
@click.option("--timeout", default=60.0, show_default=True, metavar="SECONDS", help="Longest wait.")
def drain(place: Place, timeout: float) -> None:
    """Send what waits, and return once nothing does; exit status 1 if something is left.

    If no agent runs, the exporters of --config run meanwhile, and nothing is received.
    """
    _run(_drain(place, timeout))


@queue.command()
@_place_options
@click.argument("file", type=click.Path(path_type=pathlib.Path))
@click.option("--exporter", metavar="ID", help="Of this exporter's queue only.")
@click.option("--dead-letters", is_flag=True, help="What was refused, in place of what waits.")
@click.option("--remove", is_flag=True, help="Remove it once the file is on the disk.")
def export(
    place: Place, file: pathlib.Path, exporter: str | None, *, dead_letters: bool, remove: bool
) -> None:
    """Write what waits to a new file as OTLP JSON, a request a line."""
    table = "dead_letters" if dead_letters else "items"
    _run(_export(place, file, exporter, table, removes=remove))


@queue.command()
@_place_options
@click.option("--exporter", metavar="ID", help="Of this exporter's queue only.")
def retry(place: Place, exporter: str | None) -> None:
    """Put dead letters back at the end of their queue, to be sent again."""
    _run(_retry(place, exporter))


async def _show(place: Place, *, as_json: bool) -> int:
    found = await _found(place)
    from otel_oom.service.queue import show as tables  # noqa: PLC0415

    click.echo(json.dumps(found, indent=2) if as_json else "\n".join(tables.lines(found)))
    return 0


async def _found(place: Place) -> dict[str, dict[str, Any]]:
    async with place.opened() as storages:
        return {
            name: {
                "directory": str(asked.directory),
                "is_running": asked.is_running,
                **await asked.ask("show"),
            }
            for name, asked in storages.items()
        }


async def _drain(place: Place, timeout_s: float) -> int:
    from otel_oom.service.queue import drain as drains  # noqa: PLC0415
    from otel_oom.service.queue import show as tables  # noqa: PLC0415

    async with place.opened() as storages:
        running = [asked for asked in storages.values() if asked.is_running]
        for asked in running:
            await drains.watched(asked, timeout_s)
    if not running:
        for line in await drains.alone(place.config(), timeout_s):
            click.echo(line, err=True)
    found = await _found(place)
    click.echo("\n".join(tables.lines(found)))
    return _FAILED if any(one["waiting"] for one in found.values()) else 0


async def _export(
    place: Place, file: pathlib.Path, exporter: str | None, table: str, *, removes: bool
) -> int:
    from otel_oom.service.queue import export as exports  # noqa: PLC0415

    async with place.opened() as storages:
        if len(storages) > 1:
            raise click.UsageError(f"choose one with --directory: {', '.join(storages)}")
        (asked,) = storages.values()
        done = await exports.export(asked, table, exporter, file, removes=removes)
    click.echo(f"{done.requests} requests with {done.items} items are in {file}", err=True)
    if done.damaged:
        click.echo(f"{done.damaged} damaged requests were left where they are", err=True)
    return _FAILED if done.damaged else 0


async def _retry(place: Place, exporter: str | None) -> int:
    async with place.opened() as storages:
        for name, asked in storages.items():
            done = await asked.ask("retry", queue=exporter)
            click.echo(f"{name}: {done['requests']} requests with {done['items']} items wait again")
            if done["damaged"]:
                click.echo(
                    f"{name}: {done['damaged']} damaged requests stay dead letters", err=True
                )
    return 0
