"""The file exporter: whole lines, append, rotation, a full disk, clear errors."""

from __future__ import annotations

import asyncio
import json
import os
import pathlib
import stat

import pytest
from doubles import exporting, otlp_json_reader
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from otel_oom import errors
from otel_oom.exporters import file
from otel_oom.exporters.file import line_file
from otel_oom.exporters.file.line_file import LineFile, RotationConfig
from otel_oom.pipeline.sending.retry import RetryConfig


def writing(path, **config):
    return exporting.started(file, path=str(path), **config)


async def test_a_batch_is_one_line_as_the_collector_writes_it(tmp_path):
    path = tmp_path / "kills.jsonl"
    batches = [exporting.logs("a", "b\nc"), exporting.spans("d"), exporting.points(1)]
    async with writing(path) as (agent, exporter):
        for batch in batches:
            await agent.consume(exporter, batch)

    lines = path.read_bytes().splitlines()
    assert [list(json.loads(line)) for line in lines] == [
        ["resourceLogs"],
        ["resourceSpans"],
        ["resourceMetrics"],
    ]
    assert otlp_json_reader.parse(lines[0], LogsData) == batches[0].data
    assert path.read_bytes().endswith(b"}\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_it_is_delivered_only_when_it_is_in_the_file(tmp_path, monkeypatch):
    async with writing(tmp_path / "kills.jsonl") as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        assert agent.sum() == {"held": 1}
        assert (tmp_path / "kills.jsonl").read_bytes() == b""
    assert agent.sum() == {"delivered": 1}


@pytest.mark.parametrize(("append", "lines"), [(True, 2), (False, 1)])
async def test_a_restart_goes_on_at_the_end_unless_told_otherwise(tmp_path, append, lines):
    for _ in range(2):
        async with writing(tmp_path / "kills.jsonl", append=append) as (agent, exporter):
            await agent.consume(exporter, exporting.logs("a"))

    assert len((tmp_path / "kills.jsonl").read_bytes().splitlines()) == lines


def test_append_is_the_default():
    assert file.Config(path="x").append is True


async def test_a_half_line_of_before_spoils_only_itself(tmp_path):
    path = tmp_path / "kills.jsonl"
    path.write_bytes(b'{"half')
    async with writing(path) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))

    first, second = path.read_bytes().splitlines()
    assert first == b'{"half'
    assert json.loads(second)


async def test_many_batches_keep_their_order(tmp_path):
    path = tmp_path / "kills.jsonl"
    names = [str(index) for index in range(300)]
    async with writing(path) as (agent, exporter):
        for name in names:
            await agent.consume(exporter, exporting.logs(name))

    read = [otlp_json_reader.parse(line, LogsData) for line in path.read_bytes().splitlines()]
    assert [d.resource_logs[0].scope_logs[0].log_records[0].event_name for d in read] == names


@pytest.mark.parametrize("flush_interval", [0.0, 0.001, 3600.0])
async def test_the_disk_is_told_to_keep_it(tmp_path, flush_interval, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(fd), real(fd)))
    async with writing(tmp_path / "x", flush_interval=flush_interval) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        while "held" in agent.sum() or (flush_interval < 1 and not synced):
            await asyncio.sleep(0.001)
        assert bool(synced) == (flush_interval < 1)

    assert synced


async def test_a_full_disk_is_accounted_and_leaves_no_half_line(tmp_path):
    """A file size limit stands in for the disk: the kernel cuts the write short, then refuses."""
    path = tmp_path / "kills.jsonl"
    code = pathlib.Path(__file__).parents[2] / "doubles" / "full_disk.py"
    process = await asyncio.create_subprocess_exec(
        os.sys.executable, str(code), str(path), stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(code.parents[1])},
    )  # fmt: skip
    output, complaints = await process.communicate()

    assert process.returncode == 0, complaints.decode()
    assert json.loads(output) == {"delivered": 3, "retries_exhausted": 1}
    assert [bool(json.loads(line)) for line in path.read_bytes().splitlines()] == [True] * 3


async def test_a_real_full_device_is_accounted(tmp_path):
    if not pathlib.Path("/dev/full").exists():
        pytest.skip("needs /dev/full, which every Linux has: mknod -m 666 /dev/full c 1 7")
    no_retry = RetryConfig(enabled=False)
    async with writing("/dev/full", retry_on_failure=no_retry) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("a"))
        while "held" in agent.sum():
            await asyncio.sleep(0.001)

        assert agent.sum() == {"retries_exhausted": 1}
        assert "No space left on device" in agent.statuses[0].detail


async def test_a_missing_directory_is_named_with_the_remedy(tmp_path):
    with pytest.raises(errors.ComponentError, match="create_directory: true") as caught:
        async with writing(tmp_path / "missing" / "kills.jsonl"):
            pass
    assert str(tmp_path / "missing" / "kills.jsonl") in str(caught.value)


async def test_the_directory_is_made_when_asked(tmp_path):
    async with writing(tmp_path / "a" / "b" / "kills.jsonl", create_directory=True):
        pass

    assert (tmp_path / "a" / "b" / "kills.jsonl").exists()


async def test_a_path_that_cannot_be_written_is_named_with_the_remedy(tmp_path):
    with pytest.raises(errors.ComponentError, match=f"path {tmp_path}: Is a directory; name a"):
        async with writing(tmp_path):
            pass


async def test_shutdown_is_safe_before_the_start_and_twice(tmp_path):
    exporter = file.create(exporting.Agent().settings, file.Config(path=str(tmp_path / "x")))

    await exporter.shutdown()
    await exporter.shutdown()


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (file.Config, {"path": ""}, "path"),
        (file.Config, {"path": "x", "flush_interval": -1.0}, "flush_interval"),
        (RotationConfig, {"max_megabytes": 0}, "max_megabytes"),
        (RotationConfig, {"max_days": -1}, "max_days"),
    ],
)
def test_a_config_that_cannot_work_is_refused(kind, values, message):
    with pytest.raises(ValueError, match=message):
        kind(**values)


def test_the_rotations_defaults_are_the_collectors():
    config = RotationConfig()

    assert (config.max_megabytes, config.max_days, config.max_backups) == (100, 0, 100)
    assert config.localtime is False


LINE = b"x" * (300 * 1024)


def fill(path, lines, **rotation):
    lines_file = LineFile(path, append=True, rotation=RotationConfig(max_megabytes=1, **rotation))
    for _ in range(lines):
        lines_file.write(LINE)
    lines_file.close()


def test_rotation_begins_a_new_file_before_the_limit_and_loses_no_line(tmp_path):
    fill(tmp_path / "kills.jsonl", 10)

    files = sorted(tmp_path.iterdir())
    assert len(files) == 4
    assert all(f.stat().st_size <= 1024 * 1024 for f in files)
    assert sum(len(f.read_bytes().splitlines()) for f in files) == 10


@pytest.mark.parametrize("localtime", [True, False])
def test_a_renamed_file_is_named_by_its_time(tmp_path, localtime):
    fill(tmp_path / "kills.jsonl", 4, localtime=localtime)

    backup = next(f for f in tmp_path.iterdir() if f.name != "kills.jsonl")
    assert backup.match("kills-????-??-??T??-??-??.???.jsonl")


def test_old_backups_are_removed_by_number(tmp_path):
    fill(tmp_path / "kills.jsonl", 20, max_backups=2)

    assert len(list(tmp_path.iterdir())) == 3


def test_old_backups_are_removed_by_age_and_other_files_are_left_alone(tmp_path):
    old = tmp_path / "kills-2001-01-01T00-00-00.000.jsonl"
    other = tmp_path / "kills-of-others.jsonl"
    for path in (old, other):
        path.write_bytes(b"")
        os.utime(path, (0, 0))
    fill(tmp_path / "kills.jsonl", 4, max_days=1)

    assert not old.exists()
    assert other.exists()


def test_a_line_larger_than_the_limit_has_a_file_of_its_own(tmp_path):
    lines = LineFile(tmp_path / "x", append=True, rotation=RotationConfig(max_megabytes=1))
    for _ in range(2):
        lines.write(b"y" * 3_000_000)
    lines.close()

    assert sorted(f.stat().st_size for f in tmp_path.iterdir()) == [3_000_001, 3_000_001]


def test_two_rotations_in_a_millisecond_do_not_overwrite(tmp_path, monkeypatch):
    monkeypatch.setattr(line_file.time, "time_ns", lambda: 1_700_000_000_000_000_000)
    fill(tmp_path / "kills.jsonl", 10)

    assert sum(len(f.read_bytes().splitlines()) for f in tmp_path.iterdir()) == 10
