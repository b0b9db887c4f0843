"""The `debug` exporter: what it prints, and that a closed or slow output is only counted."""

import asyncio
import os
import types

import pytest
from doubles import sink

from otel_oom import errors
from otel_oom.exporters import debug
from otel_oom.pipeline import data
from otel_oom.pipeline.component import State
from otel_oom.pipeline.data import Signal


@pytest.fixture
def stdout(monkeypatch):
    """A pipe in place of stdout; yields its reading end."""
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, os.fdopen(reader, "rb", buffering=0) as source:
        monkeypatch.setattr(debug, "sys", types.SimpleNamespace(stdout=stream))
        yield source


async def exporter(**options):
    bench = sink.Bench()
    made = debug.FACTORY.create(bench.settings("debug"), debug.Config(**options))
    await made.start()
    return made, bench


def test_the_defaults_are_the_collectors():
    assert (debug.Config().verbosity, debug.Config().output_paths) == ("basic", ["stdout"])


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"sampling_initial": 2}, "sampling_initial"),
        ({"sampling_thereafter": 2}, "sampling_thereafter"),
        ({"output_paths": ["/tmp/x"]}, "output_paths"),
        ({"output_paths": ["stdout", "stderr"]}, "output_paths"),
    ],
)
def test_what_is_not_supported_is_refused_with_its_key(options, key):
    ((path, message),) = debug.Config(**options).validate()

    assert path == (key,)
    assert f"`{key}`" in message


@pytest.mark.parametrize(
    ("verbosity", "shown"),
    [
        ("basic", b"Logs: 1 resources, 2 log records\n"),
        ("normal", b"INFO  first\n"),
        ("detailed", b"      body: second\n"),
    ],
)
async def test_each_verbosity_prints_its_form_and_counts_as_delivered(stdout, verbosity, shown):
    made, bench = await exporter(verbosity=verbosity)
    await made.consume(sink.log_batch("first", "second"))
    await made.shutdown()

    assert shown in stdout.read(65536)
    assert bench.ledger.balance(Signal.LOGS).delivered == 2


async def test_a_closed_output_is_counted_and_told_once_without_a_traceback(stdout, caplog):
    made, bench = await exporter()
    stdout.close()
    for _ in range(3):
        await made.consume(sink.log_batch("x"))
    await made.shutdown()

    balance = bench.ledger.balance(Signal.LOGS)
    assert (balance.dropped, balance.held) == ({"output_closed": 3}, 0)
    assert bench.board.statuses()["debug"].state is State.PERMANENT_ERROR
    assert [record.exc_info for record in caplog.records] == [None]


async def test_what_a_slow_reader_has_not_taken_is_held(stdout):
    made, bench = await exporter(verbosity="normal")
    await made.consume(sink.log_batch("x" * 500_000))
    assert bench.ledger.balance(Signal.LOGS).held == 1

    stdout.close()
    await made.shutdown()
    assert bench.ledger.balance(Signal.LOGS).held == 0


async def test_an_empty_batch_is_printed_too(stdout):
    made, _ = await exporter()
    await made.consume(data.Batch.of(sink.LogsData()))
    await made.shutdown()

    assert stdout.read(100) == b"Logs: 0 resources, 0 log records\n"


async def test_a_large_batch_leaves_turns_to_others_and_comes_out_whole(stdout):
    made, bench = await exporter(verbosity="normal")
    bodies = [f"record {number}" for number in range(1000)]
    turns = 0
    printing = asyncio.create_task(made.consume(sink.log_batch(*bodies)))
    while not printing.done():
        turns += 1
        await asyncio.sleep(0)
    await made.shutdown()

    shown = stdout.read(200_000).decode().splitlines()
    assert [line.partition("INFO  ")[2] for line in shown] == bodies
    assert turns > 5
    assert bench.ledger.balance(Signal.LOGS).delivered == 1000


async def test_after_the_stop_nothing_is_taken(stdout):
    made, bench = await exporter()
    await made.shutdown()

    with pytest.raises(errors.Refused):
        await made.consume(sink.log_batch("late"))
    assert bench.ledger.balance(Signal.LOGS).held == 0
