"""A program whose files may not grow beyond some KiB: the file exporter in it, to its end.

Prints what became of four batches, of which the third is too large for the room left.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import sys

from doubles import exporting

from otel_oom.exporters import file
from otel_oom.pipeline.sending.retry import RetryConfig

LIMIT_BYTES = 16 * 1024


async def main(path: str) -> None:
    config = {"path": path, "retry_on_failure": RetryConfig(enabled=False)}
    async with exporting.started(file, **config) as (agent, exporter):
        for name in ("a", "b", "c" * 20 * 1024, "d"):
            await agent.consume(exporter, exporting.logs(name))
        await exporting.settled(agent)
    print(json.dumps(agent.sum()))


signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, LIMIT_BYTES))
asyncio.run(main(sys.argv[1]))
