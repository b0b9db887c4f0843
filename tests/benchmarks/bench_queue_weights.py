"""How soon a kill is sent while a million requests of a low weight wait on the disk.

The real chain over a real file: a million rows of one log record each, weight 3, and a destination that
takes `CALL_S` a call. While they are sent, kills come, and each is timed from where the exporter is
handed it to where the destination has it. Beside it, in turn, the same with nothing else in the file.
It also tells what FULL costs against NORMAL, by the same kills with weight 9. Fails if one is lost.
`--rows 100000` is a short form. Run by `make bench`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import pathlib
import sqlite3
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import exporting, keeping

from otel_oom import errors
from otel_oom.pipeline.durable.rows import Row
from otel_oom.pipeline.sending.request import Answer, Request

KILLS = 500
EVERY_S = 0.01
CALL_S = 0.002
ROUNDS = 2


@dataclasses.dataclass
class Round:
    """What one round of kills came to."""

    name: str
    rows_left: int
    accepted_ms: list[float]
    sent_ms: list[float]
    start_s: float


class Destination(keeping.Destination):
    """Notes when it had each kill."""

    def __init__(self) -> None:
        super().__init__()
        self.had_s: dict[bytes, float] = {}
        self.low = 0

    async def send(self, request: Request) -> Answer:
        if not self.is_up:
            raise errors.Retryable("it is away")
        await asyncio.sleep(CALL_S)
        if request.weight > 3:
            self.had_s[request.body] = time.perf_counter()
        else:
            self.low += 1
        return Answer()


def fill(folder: pathlib.Path, rows: int) -> None:
    """Write rows as the agent would."""
    body = exporting.logs("metric").encoded()
    crc = Row("otlp_http/test", "logs", 3, 1, 1, body).checksum
    with contextlib.closing(sqlite3.connect(folder / "queue.db")) as connection:
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO items (queue, signal, weight, items, accepted_ns, crc, body) "
            "SELECT 'otlp_http/test', 'logs', 3, 1, 1, ?, ? FROM n",
            (rows, crc, body),
        )
        connection.commit()
    (folder / "queue.db.tally").unlink(missing_ok=True)


async def measure(folder: pathlib.Path, name: str, weight: int, rows: int) -> Round:
    """Start over the file, hand over kills, and stop."""
    destination, bodies, accepted_ms, began = Destination(), {}, [], time.perf_counter()
    async with keeping.running(folder, destination, queue_size=10_000_000) as (agent, exporter):
        start_s = time.perf_counter() - began
        for number in range(KILLS):
            batch = exporting.logs(f"kill {number}").weighing(weight)
            bodies[batch.encoded()] = handed_s = time.perf_counter()
            await agent.consume(exporter, batch)
            accepted_ms.append(1000 * (time.perf_counter() - handed_s))
            await asyncio.sleep(EVERY_S)
        await keeping.until(lambda: len(destination.had_s) == KILLS)
        left = rows - destination.low
        if rows and left <= 0:
            raise SystemExit("nothing was left to wait: take more rows")
        destination.is_up = False  # what is low stays where it is
    sent_ms = [1000 * (destination.had_s[body] - handed_s) for body, handed_s in bodies.items()]
    return Round(name, left, accepted_ms, sent_ms, start_s)


def percentile(values: list[float], part: int) -> float:
    return statistics.quantiles(values, n=100)[part - 1]


def show(rounds: list[Round]) -> None:
    print(
        "| | waiting at the end | start | accepted p50 / p99 | at the destination p50 / p99 / max |"
    )
    print("| --- | ---: | ---: | ---: | ---: |")
    for one in rounds:
        accepted = (
            f"{percentile(one.accepted_ms, 50):.1f} / {percentile(one.accepted_ms, 99):.1f} ms"
        )
        sent = (
            f"{percentile(one.sent_ms, 50):.1f} / {percentile(one.sent_ms, 99):.1f} / "
            f"{max(one.sent_ms):.1f} ms"
        )
        print(f"| {one.name} | {one.rows_left:,} | {one.start_s:.1f} s | {accepted} | {sent} |")


def main() -> None:
    """Run all in turn, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    rounds = []
    for number in range(1, ROUNDS + 1):
        for name, weight, waiting in (
            ("nothing else, FULL", 10, 0),
            (f"{rows:,} wait, FULL", 10, rows),
            ("nothing else, NORMAL", 9, 0),
        ):
            with tempfile.TemporaryDirectory(dir=pathlib.Path.cwd()) as folder:
                path = pathlib.Path(folder)
                asyncio.run(make(path))
                if waiting:
                    fill(path, waiting)
                rounds.append(asyncio.run(measure(path, f"{number}: {name}", weight, waiting)))
    show(rounds)


async def make(folder: pathlib.Path) -> None:
    """An empty file."""
    async with keeping.running(folder, keeping.Destination()):
        pass


if __name__ == "__main__":
    main()
