"""`otel-oom queue`: a real process, beside an agent that runs or over the file of one that does not."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import sqlite3
import stat
import subprocess
import time

import pytest
from doubles import exporting, keeping, otlp_json_reader, otlp_server, queue_tool
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from otel_oom import errors

KILLS = 6


async def test_what_waits_and_what_was_refused_is_shown(tmp_path):
    await queue_tool.fill(tmp_path, "a", "b", dead=("c",))

    text = await queue_tool.ask("show", "--directory", tmp_path)
    found = (await queue_tool.ask("show", "--directory", tmp_path, "--json")).storage

    assert not found["is_running"]
    (waiting,), (dead,) = found["waiting"], found["dead"]
    assert (waiting["queue"], waiting["signal"]) == (queue_tool.QUEUE, "logs")
    assert (waiting["requests"], waiting["items"]) == (2, 2)
    assert 1 <= waiting["weight"] <= 10
    assert 0 <= time.time_ns() - waiting["oldest_ns"] < 600e9
    assert (dead["requests"], dead["reason"]) == (1, "no such tenant")
    assert "no agent runs" in text.stdout
    assert "no such tenant" in text.stdout


async def test_a_running_agent_is_asked_through_a_socket_of_its_user_alone(tmp_path):
    folder = tmp_path / ("x" * 120)  # a socket's path must be shorter than that
    folder.mkdir()
    async with keeping.running(folder, keeping.Destination(is_up=False)) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        found = (await queue_tool.ask("show", "--directory", folder, "--json")).storage
        assert found["is_running"]
        assert found["waiting"][0]["requests"] == 1
        mode = (folder / "control.sock").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert not (folder / "control.sock").exists()


async def test_dead_letters_go_back_to_the_agent_that_runs(tmp_path):
    destination = keeping.Destination()
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        destination.refused = errors.Permanent("no such tenant")
        for name in "ab":
            await agent.consume(exporter, exporting.logs(name))
        await keeping.until(lambda: agent.sum() == {"rejected": 2})
        destination.refused = None
        done = await queue_tool.ask("retry", "--directory", tmp_path)
        assert "2 requests with 2 items wait again" in done.stdout
        await keeping.until(lambda: agent.sum() == {"rejected": 2, "delivered": 2})
        found = (await queue_tool.ask("show", "--directory", tmp_path, "--json")).storage

    assert queue_tool.names(destination) == ["a", "b"]
    assert (found["waiting"], found["dead"]) == ([], [])


async def test_dead_letters_of_an_agent_that_does_not_run_are_sent_by_its_next_life(tmp_path):
    await queue_tool.fill(tmp_path, "a", dead=("b", "c"))

    other = await queue_tool.ask("retry", "--directory", tmp_path, "--exporter", "otlp_http/other")
    assert "0 requests" in other.stdout
    assert (await queue_tool.ask("retry", "--directory", tmp_path)).status == 0
    assert await queue_tool.send_all(tmp_path) == ["a", "b", "c"]


async def test_a_damaged_dead_letter_stays_where_it_is(tmp_path):
    await queue_tool.fill(tmp_path, dead=("a", "b"))
    with sqlite3.connect(tmp_path / "queue.db") as connection:
        connection.execute("UPDATE dead_letters SET body = x'00' WHERE id = 1")
    connection.close()

    done = await queue_tool.ask("retry", "--directory", tmp_path)

    assert "1 damaged requests stay dead letters" in done.stderr
    assert await queue_tool.send_all(tmp_path) == ["b"]


def exported(path):
    lines = path.read_bytes().splitlines()
    messages = [otlp_json_reader.parse(line, LogsData) for line in lines]
    return [exporting.event_name(message.SerializeToString()) for message in messages]


async def test_what_waits_is_written_as_otlp_json_and_removed_only_if_asked(tmp_path):
    await queue_tool.fill(tmp_path, "a", "b", dead=("c",))
    where = ("--directory", tmp_path)

    assert (await queue_tool.ask("export", tmp_path / "1", *where)).status == 0
    assert (await queue_tool.ask("export", tmp_path / "2", *where, "--remove")).status == 0
    assert (await queue_tool.ask("export", tmp_path / "3", *where, "--dead-letters")).status == 0

    assert exported(tmp_path / "1") == exported(tmp_path / "2") == ["a", "b"]
    assert exported(tmp_path / "3") == ["c"]
    assert await queue_tool.send_all(tmp_path) == []


async def test_a_file_that_is_there_is_not_written_over(tmp_path):
    await queue_tool.fill(tmp_path, "a")
    (tmp_path / "out").write_text("mine")

    done = await queue_tool.ask("export", tmp_path / "out", "--directory", tmp_path, "--remove")

    assert done.status == 1
    assert (tmp_path / "out").read_text() == "mine"
    assert await queue_tool.send_all(tmp_path) == ["a"]


async def test_what_waits_for_a_running_agent_is_exported_but_not_removed(tmp_path):
    where = ("--directory", tmp_path)
    async with keeping.running(tmp_path, keeping.Destination(is_up=False)) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        refused = await queue_tool.ask("export", tmp_path / "1", *where, "--remove")
        assert "belongs to the agent that runs" in refused.stderr
        assert (await queue_tool.ask("export", tmp_path / "2", *where)).status == 0
    assert exported(tmp_path / "2") == ["a"]
    assert await queue_tool.send_all(tmp_path) == ["a"]


def killed_while(*arguments):
    """Kill the tool at a random instant; whether it was still at work."""
    with subprocess.Popen(queue_tool.command(*arguments), stderr=subprocess.DEVNULL) as process:
        try:
            process.wait(random.uniform(0.2, 2.0))
        except subprocess.TimeoutExpired:
            process.kill()
            return True
    return False


async def test_a_tool_that_is_killed_at_any_instant_loses_nothing(tmp_path):
    """Exports that remove, and retries: all is in a file or in the storage, perhaps in both."""
    count = 3000
    destination = keeping.Destination(is_up=False)
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        numbers = [f"{number}" for number in range(count)]
        await asyncio.gather(*(agent.consume(exporter, exporting.logs(one)) for one in numbers))
    with sqlite3.connect(tmp_path / "queue.db") as connection:
        connection.execute("INSERT INTO dead_letters SELECT *, 1, 'no' FROM items WHERE id % 2")
        connection.execute("DELETE FROM items WHERE id % 2")
    connection.close()

    for number in range(KILLS):
        path = tmp_path / f"{number}"
        verb = ("export", path, "--remove") if number % 2 else ("retry",)
        await asyncio.to_thread(killed_while, *verb, "--directory", tmp_path)
    assert (await queue_tool.ask("retry", "--directory", tmp_path)).status == 0
    found = set(await queue_tool.send_all(tmp_path))
    for number in itertools.takewhile(lambda n: n < KILLS, itertools.count()):
        if (path := tmp_path / f"{number}").exists():
            found |= whole_lines(path)

    assert found == set(numbers)


def whole_lines(path):
    """What a file tells; the tool may have been killed in the middle of its last line."""
    lines = path.read_bytes().split(b"\n")[:-1]
    return {json.loads(line)["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["eventName"]
            for line in lines}  # fmt: skip


def config(folder, url):
    queue = {"storage": "file_storage"}
    retry = {"initial_interval": "10ms", "max_interval": "20ms"}
    return json.dumps(
        {
            "receivers": {"oom": None},
            "exporters": {
                queue_tool.QUEUE: {
                    "endpoint": url, "sending_queue": queue, "retry_on_failure": retry,
                }
            },
            "extensions": {"file_storage": {"directory": str(folder)}},
            "service": {
                "extensions": ["file_storage"],
                "shutdown_timeout": "1s",
                "pipelines": {"logs": {"receivers": ["oom"], "exporters": [queue_tool.QUEUE]}},
            },
        }
    )  # fmt: skip


@pytest.mark.usefixtures("no_proxies")
async def test_draining_without_an_agent_sends_by_its_exporters_alone(tmp_path):
    await queue_tool.fill(tmp_path, "a", "b", dead=("c",))
    server = otlp_server.HttpServer()
    async with otlp_server.serving(server):
        text = f"yaml:{config(tmp_path, server.url)}"
        done = await queue_tool.ask("drain", "--config", text)

    assert done.status == 0, done.stderr
    assert "recovered 2 + copied 0 = delivered 2" in done.stderr
    assert "nothing waits" in done.stdout
    sent = [exporting.event_name(one.message.SerializeToString()) for one in server.received]
    assert sent == ["a", "b"]


async def test_draining_to_a_destination_that_is_away_says_what_is_left_and_keeps_it(tmp_path):
    await queue_tool.fill(tmp_path, "a")
    text = f"yaml:{config(tmp_path, 'http://127.0.0.1:9')}"

    done = await queue_tool.ask("drain", "--config", text, "--timeout", "0.2")

    assert done.status == 1
    assert queue_tool.QUEUE in done.stdout
    assert "held 1: closed" in done.stderr
    assert await queue_tool.send_all(tmp_path) == ["a"]


async def test_draining_beside_an_agent_waits_for_it(tmp_path):
    destination = keeping.Destination(is_up=False)
    text = f"yaml:{config(tmp_path, 'http://127.0.0.1:9')}"
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        late = await queue_tool.ask("drain", "--config", text, "--timeout", "0.2")
        assert late.status == 1
        destination.is_up = True
        assert (await queue_tool.ask("drain", "--config", text)).status == 0
        assert agent.sum() == {"delivered": 1}


def test_a_folder_without_a_storage_is_told(tmp_path):
    done = queue_tool.run("show", "--directory", tmp_path)

    assert done.status == 1
    assert f"there is no storage in {tmp_path}" in done.stderr
    assert list(tmp_path.iterdir()) == [], "to look makes nothing"


def test_a_configuration_without_a_storage_is_told():
    done = queue_tool.run("show")

    assert done.status == 1
    assert "no `file_storage` in `service.extensions`" in done.stderr


async def test_an_agent_that_holds_the_lock_and_does_not_answer_is_told(tmp_path):
    async with keeping.running(tmp_path, keeping.Destination()):
        (tmp_path / "control.sock").unlink()
        done = await queue_tool.ask("show", "--directory", tmp_path)

    assert done.status == 1
    assert "is in use by an agent that does not answer at control.sock" in done.stderr


async def test_a_file_of_an_unknown_version_is_refused(tmp_path):
    await queue_tool.fill(tmp_path, "a")
    connection = sqlite3.connect(tmp_path / "queue.db")
    connection.execute("PRAGMA user_version=99")
    connection.close()
    (tmp_path / "queue.db.tally").unlink()  # which would say that the header is damaged

    done = await queue_tool.ask("show", "--directory", tmp_path)

    assert done.status == 1
    assert "is of version 99" in done.stderr


async def test_what_is_no_request_is_answered_or_cut_off_and_harms_nobody(tmp_path):
    """Who writes to the socket is the agent's own user, and may still be wrong."""
    async with keeping.running(tmp_path, keeping.Destination()) as (agent, exporter):
        for raw in (b"\0" * 7, (1 << 40).to_bytes(8, "big"), (2).to_bytes(8, "big") + b"[]"):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
            writer.write(raw)
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
        reader, writer = await asyncio.open_unix_connection(tmp_path / "control.sock")
        writer.write((20).to_bytes(8, "big") + b'{"command": "erase"}')
        assert b"unknown command" in await reader.read(1000)
        writer.close()
        await agent.consume(exporter, exporting.logs("a"))
        await keeping.until(lambda: agent.sum() == {"delivered": 1})
