"""A storage to be asked: through its agent if that runs, else by opening it ourselves."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
from collections.abc import AsyncIterator
from typing import Any

import otel_oom
from otel_oom import errors
from otel_oom.config.types import ComponentId
from otel_oom.extensions import file_storage
from otel_oom.extensions.file_storage.config import Config
from otel_oom.pipeline import accounting, component
from otel_oom.pipeline.durable import framing
from otel_oom.pipeline.durable.requests import Message
from otel_oom.service import board as boards
from otel_oom.service.settings import AgentConfig

_ANSWER_BYTES = 1 << 30
"""An answer has a page and one request more, in base64."""


class Asked:
    """One storage; `is_running` tells whether its agent answers."""

    def __init__(self, directory: pathlib.Path, *, is_running: bool) -> None:
        self.directory = directory
        self.is_running = is_running

    async def ask(self, command: str, **arguments: Any) -> Message:
        """The answer, or `errors.StorageError` with what the other side says."""
        answer = await self._answer({"command": command, **arguments})
        if "error" in answer:
            raise errors.StorageError(f"{self.directory}: {answer['error']}", "storage_error")
        return answer

    async def _answer(self, request: Message) -> Message:
        raise NotImplementedError


class Remote(Asked):
    """The agent that has the storage, through its socket."""

    def __init__(
        self, directory: pathlib.Path, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(directory, is_running=True)
        self._reader = reader
        self._writer = writer

    async def _answer(self, request: Message) -> Message:
        try:
            self._writer.write(framing.framed(request))
            await self._writer.drain()
            answer = await framing.read(self._reader, _ANSWER_BYTES)
        except (OSError, EOFError, ValueError) as error:
            return {"error": f"the agent's answer broke off: {error}"}
        return answer if answer is not None else {"error": "the agent has stopped"}


class Local(Asked):
    """A storage that we have opened; no agent can start on it meanwhile."""

    def __init__(self, directory: pathlib.Path, storage: file_storage.FileStorage) -> None:
        super().__init__(directory, is_running=False)
        self._requests = storage.requests()

    async def _answer(self, request: Message) -> Message:
        return await self._requests.answer(request)


@contextlib.asynccontextmanager
async def opened(directory: pathlib.Path) -> AsyncIterator[Asked]:
    """The storage in a directory, or `errors.ComponentError` that says why there is none."""
    if not (directory / file_storage.FILE).is_file():
        raise errors.ComponentError(
            f"there is no storage in {directory}: no agent has kept a queue there"
        )
    streams = await _connected(directory)
    if streams is None:
        async with _local(directory) as local:
            yield local
        return
    try:
        yield Remote(directory, *streams)
    finally:
        streams[1].close()


def directories(config: AgentConfig) -> dict[str, pathlib.Path]:
    """The storages of a configuration that run, by the id of their extension."""
    found = {
        str(id_): pathlib.Path(configured.config.directory)
        for id_, configured in config.extensions.items()
        if id_ in config.service.extensions and isinstance(configured.config, Config)
    }
    if not found:
        raise errors.ComponentError(
            "the configuration has no `file_storage` in `service.extensions`, so no queue is kept "
            "on a disk; give the agent's own --config"
        )
    return found


async def _connected(
    directory: pathlib.Path,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
    """A connection to the agent, None if nobody listens."""
    with framing.address(directory) as address:
        try:
            return await asyncio.open_unix_connection(address)
        except PermissionError as error:
            raise errors.ComponentError(
                f"{directory}: the agent's socket is for its own user: {error.strerror}"
            ) from error
        except OSError:
            return None


@contextlib.asynccontextmanager
async def _local(directory: pathlib.Path) -> AsyncIterator[Local]:
    config = Config(directory=str(directory))
    storage = file_storage.FileStorage(_settings(), config)
    try:
        await _start(storage, directory)
        yield Local(directory, storage)
    finally:
        await storage.shutdown()


async def _start(storage: file_storage.FileStorage, directory: pathlib.Path) -> None:
    try:
        await storage.start()
    except errors.ComponentError as error:
        text = _in_use(directory) if "in use" in str(error) else str(error)
        raise errors.ComponentError(text) from error


def _in_use(directory: pathlib.Path) -> str:
    return (
        f"{directory} is in use by an agent that does not answer at {framing.SOCKET} there: it "
        "starts or stops just now, or could not make the socket, which its log says"
    )


def _settings() -> component.Settings:
    return component.Settings(
        id=ComponentId("file_storage"),
        ledger=accounting.Ledger(),
        report=lambda _: None,
        board=boards.StatusBoard(),
        version=otel_oom.__version__,
    )
