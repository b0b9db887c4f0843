"""A process that sends through one real exporter and says what that costs it, line by line.

    python hostile_sender.py otlp_http '{"endpoint": "http://localhost:4318", "timeout": 1.0}'

For each line on stdin it sends one record, and once its fate is known (for `fail`: once a try has
failed) it prints a line of JSON: the sum, what it said, and how far its memory has been above what it
was when it was told `begin`. `settle` waits until nothing is held.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import pathlib
import sys
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import exporting

from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.retry import AdaptiveConfig, RetryConfig
from otel_oom.service import memory

RETRY = RetryConfig(
    initial_interval=0.2,
    max_interval=0.2,
    max_elapsed_time=0,
    randomization_factor=0.0,
    adaptive=AdaptiveConfig(enabled=False),
)


def memory_kib(name: str) -> int:
    """One line of /proc/self/status, e.g. `VmHWM`."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(name)


async def main(type_name: str, config: dict[str, Any]) -> None:
    """Answer each line."""
    memory.share_one_arena()  # as the agent does, before there is a thread
    module = importlib.import_module(f"otel_oom.exporters.{type_name}")
    agent = exporting.Agent(type_name)
    options = {"retry_on_failure": RETRY, "sending_queue": QueueConfig(num_consumers=1), **config}
    exporter = module.FACTORY.create(agent.settings, module.Config(**options))
    await exporter.start()
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    before_kib = 0
    while line := (await lines.readline()).decode().split():
        seen = len(agent.statuses)
        if line[0] == "begin":
            pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
            before_kib = memory_kib("VmRSS")
        elif line[0] != "settle":
            await agent.consume(exporter, exporting.logs("a"))
        await _until(agent, seen, fails=line[0] == "fail")
        grown_kib = memory_kib("VmHWM") - before_kib
        details = [one.detail for one in agent.statuses[seen:]]
        print(json.dumps({"sum": agent.sum(), "grown_kib": grown_kib, "said": details}), flush=True)
    await exporter.shutdown()


async def _until(agent: exporting.Agent, seen: int, *, fails: bool) -> None:
    async with asyncio.timeout(60):
        while "held" in agent.sum() and not (fails and len(agent.statuses) > seen):
            await asyncio.sleep(0.005)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
