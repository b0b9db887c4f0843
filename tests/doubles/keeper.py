"""A process that accepts records into a queue on a disk as fast as it can, to be killed.

    python keeper.py FOLDER FIRST

It prints the number of each record once that is accepted, beginning with FIRST; what its destination
takes it appends to FOLDER/delivered, a number a line. Every other record is critical. The destination
is away half of the time.
On SIGTERM it accepts no more, and ends once all is delivered.
"""

from __future__ import annotations

import asyncio
import os
import pathlib
import random
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import exporting, keeping
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from otel_oom import errors
from otel_oom.pipeline import weights
from otel_oom.pipeline.sending.request import Answer, Request


class Destination(keeping.Destination):
    """Writes what it takes to a file, and then says so."""

    def __init__(self, path: pathlib.Path) -> None:
        super().__init__()
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def send(self, request: Request) -> Answer:
        await asyncio.sleep(random.random() / 1000)
        if random.random() < 0.5:
            raise errors.Retryable("it is away")
        record = LogsData.FromString(request.body).resource_logs[0].scope_logs[0].log_records[0]
        os.write(self._fd, f"{record.event_name}\n".encode())
        return Answer()


async def main(folder: pathlib.Path, number: int) -> None:
    """Accept until SIGTERM, then deliver all."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    destination = Destination(folder / "delivered")
    queue = {"queue_size": 1 << 30, "num_consumers": 4}
    async with keeping.running(folder, destination, **queue) as (agent, exporter):
        while not stopping.is_set():
            weight = weights.CRITICAL if number % 2 else weights.DEFAULT
            await agent.consume(exporter, exporting.logs(str(number)).weighing(weight))
            os.write(1, f"{number}\n".encode())
            number += 1
        await keeping.until(lambda: "held" not in agent.sum())


if __name__ == "__main__":
    asyncio.run(main(pathlib.Path(sys.argv[1]), int(sys.argv[2])))
