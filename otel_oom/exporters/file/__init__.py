"""OTLP/JSON in a file, one message a line, as the collector's file exporter writes it.

So the collector's `otlp_json_file` receiver reads it, and so does `jq`. Other than there,
`append` is true by default: a restart of the agent must not erase the kills of before.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from pathlib import Path

from otel_oom import errors
from otel_oom.config.types import Duration
from otel_oom.exporters.file import line_file
from otel_oom.exporters.file.line_file import RotationConfig
from otel_oom.pipeline import component
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.otlp import json as otlp_json
from otel_oom.pipeline.sending import chain as sending
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.request import Answer, Request
from otel_oom.pipeline.sending.retry import RetryConfig

_log = logging.getLogger(__name__)


def _in_order() -> QueueConfig:
    return QueueConfig(num_consumers=1)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """`file`, with the collector's names; the defaults differ in `append`."""

    path: str
    """The file, made readable for its owner only; required."""

    append: bool = True
    """Whether to go on at the end of a file that exists, default true; false empties it."""

    create_directory: bool = False
    """Whether to make the directory of `path`, default false: it must exist."""

    rotation: RotationConfig | None = None
    """When to begin a new file; by default never."""

    flush_interval: Duration = Duration(1.0)
    """Longest time from a write until the disk is told to keep it (fsync), default 1s.

    What a power loss within it takes was counted as delivered; 0 syncs before it is counted."""

    sending_queue: QueueConfig = dataclasses.field(default_factory=_in_order)
    """What waits to be written; `num_consumers` is 1 by default, which keeps the order."""

    retry_on_failure: RetryConfig = dataclasses.field(default_factory=RetryConfig)
    """For how long to try again when the disk is full or fails."""

    def __post_init__(self) -> None:
        """Refuse a config without a file."""
        if not self.path:
            raise ValueError("'path' must name a file")
        if self.flush_interval < 0:
            raise ValueError("'flush_interval' must not be negative")


class Push:
    """One line, written in a thread of the loop's pool, because a disk can stall for seconds."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._path = Path(config.path)
        self._file: line_file.LineFile | None = None
        self._syncing: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Open the file, or raise `errors.ComponentError` with what to do."""
        await asyncio.to_thread(self._open)

    async def send(self, request: Request) -> Answer:
        """Write one line. A write that was begun is waited for, also when the agent stops."""
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, request.body))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await asyncio.wait([writing])
            raise
        except OSError as failure:
            raise errors.Retryable(f"cannot write {self._path}: {failure.strerror}") from failure
        self._sync_soon()
        return Answer()

    async def close(self) -> None:
        """Sync and close the file."""
        if self._syncing is not None:
            self._syncing.cancel()
            await asyncio.wait([self._syncing])
        if self._file is not None:
            await asyncio.to_thread(self._close, self._file)

    def _open(self) -> None:
        try:
            if self._config.create_directory:
                self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = line_file.LineFile(
                self._path, append=self._config.append, rotation=self._config.rotation
            )
        except FileNotFoundError as failure:
            raise errors.ComponentError(
                f"file: the directory of path {self._path} does not exist; make it, or set "
                "create_directory: true"
            ) from failure
        except OSError as failure:
            raise errors.ComponentError(
                f"file: cannot open path {self._path}: {failure.strerror}; name a file that this "
                "user can write"
            ) from failure

    def _write(self, line: bytes) -> None:
        if self._file is None:
            raise AssertionError
        self._file.write(line)
        if not self._config.flush_interval:
            self._file.sync()

    def _sync_soon(self) -> None:
        if self._config.flush_interval and (self._syncing is None or self._syncing.done()):
            self._syncing = asyncio.create_task(self._sync_later())

    async def _sync_later(self) -> None:
        await asyncio.sleep(self._config.flush_interval)
        if self._file is not None:
            try:
                await asyncio.to_thread(self._file.sync)
            except OSError as failure:
                self._warn(failure)

    def _close(self, file: line_file.LineFile) -> None:
        try:
            file.close()
        except OSError as failure:
            self._warn(failure)

    def _warn(self, failure: OSError) -> None:
        _log.error("file: fsync of %s failed, what was written may be lost: %s",
                   self._path, failure.strerror)  # fmt: skip


def create(settings: component.Settings, config: Config) -> sending.Exporter:
    """The exporter: our chain of senders that ends in `Push`."""
    return sending.Exporter(
        settings,
        Push(config),
        queue=config.sending_queue,
        retry=config.retry_on_failure,
        timeout_s=0.0,
        encode=otlp_json.encode,
    )


FACTORY = component.Factory(
    type_name="file",
    kind=component.Kind.EXPORTER,
    config=Config,
    create=create,
    signals=dict.fromkeys(Signal, component.Stability.ALPHA),
)
