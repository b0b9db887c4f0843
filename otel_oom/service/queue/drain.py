"""Sends what waits: by the agent that runs, or by its exporters alone if none does."""

from __future__ import annotations

import asyncio
import contextlib

from otel_oom.pipeline import accounting
from otel_oom.pipeline.data import Signal
from otel_oom.service import board as boards
from otel_oom.service import builder, summary
from otel_oom.service.queue.storage import Asked
from otel_oom.service.settings import AgentConfig

_LOOK_S = 0.1


async def watched(asked: Asked, timeout_s: float) -> None:
    """Wait until the agent that runs has sent all that waits, or the time is up."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            while (await asked.ask("show"))["waiting"]:  # noqa: ASYNC110  # it is another process
                await asyncio.sleep(_LOOK_S)


async def alone(config: AgentConfig, timeout_s: float) -> list[str]:
    """Run the storages and the exporters that keep a queue in one; nothing is received.

    Returns what became of all, as the agent says it when it stops.
    """
    ledger, board = accounting.Ledger(), boards.StatusBoard()
    graph = builder.build_senders(config, ledger, board)
    try:
        await graph.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while any(ledger.balance(one).held for one in Signal):  # noqa: ASYNC110  # as above
                    await asyncio.sleep(_LOOK_S)
    finally:
        await graph.stop()
    found = [signal for signal in Signal if ledger.balance(signal).recovered]
    return list(summary.lines(ledger, found))
