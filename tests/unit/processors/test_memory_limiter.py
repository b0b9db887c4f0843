"""The `memory_limiter` processor: its limits, what it refuses and what passes all the same."""

import gc

import pytest
from doubles import sink

from otel_oom import errors, telemetry
from otel_oom.pipeline.data import Signal
from otel_oom.processors import memory_limiter
from otel_oom.processors.memory_limiter import Config, Level, Limits, memory

MIB = 1024 * 1024
INFO, ERROR, FATAL = 9, 17, 21


@pytest.fixture
def resident(monkeypatch):
    """Sets the resident memory that is read, in MiB."""

    def set_mib(mib):
        monkeypatch.setattr(telemetry, "resident_bytes", lambda: mib * MIB)

    return set_mib


async def started(config):
    bench, end = sink.Bench(), sink.Sink()
    processor = memory_limiter.FACTORY.create(bench.settings("memory_limiter"), config, end)
    await processor.start()
    return processor, end, bench


async def test_below_the_soft_limit_everything_passes(resident):
    resident(79)
    processor, end, bench = await started(Config(limit_mib=100))
    await processor.consume(sink.log_batch("a", severity=INFO))
    await processor.shutdown()

    assert end.bodies() == ["a"]
    assert bench.board.statuses() == {}


async def test_above_the_soft_limit_only_what_is_severe_passes(resident):
    resident(80)
    processor, end, bench = await started(Config(limit_mib=100))
    await processor.consume(sink.log_batch("kill", severity=ERROR))
    with pytest.raises(errors.Refused) as refused:
        await processor.consume(sink.log_batch("chatter", severity=ERROR - 1))
    await processor.shutdown()

    assert end.bodies() == ["kill"]
    assert refused.value.reason == "memory_limiter"
    rows = set(bench.ledger.rows())
    name = "processor_memory_limiter_refused"
    assert (name, "memory_limiter", Signal.LOGS, "", 1) in rows
    (status,) = bench.board.statuses().values()
    assert "80 MiB" in status.detail


@pytest.mark.parametrize(("exempt", "passes"), [("NONE", False), ("FATAL", True)])
async def test_what_is_exempt_is_configurable(resident, exempt, passes):
    resident(90)
    processor, end, _ = await started(Config(limit_mib=100, exempt_severity=exempt))
    try:
        await processor.consume(sink.log_batch("a", severity=FATAL))
    except errors.Refused:
        assert not passes
    await processor.shutdown()

    assert bool(end.batches) is passes


async def test_above_the_hard_limit_nothing_passes_and_garbage_is_collected(resident, monkeypatch):
    collected = []
    monkeypatch.setattr(gc, "collect", lambda: collected.append(1))
    resident(100)
    processor, _, _ = await started(Config(limit_mib=100))
    with pytest.raises(errors.Refused):
        await processor.consume(sink.log_batch("kill", severity=FATAL))
    await processor.shutdown()

    assert collected == [1]


async def test_garbage_is_collected_ever_more_rarely_while_it_does_not_help(resident, monkeypatch):
    now_s, collected = [0.0], []
    monkeypatch.setattr(gc, "collect", lambda: collected.append(now_s[0]))
    resident(100)
    processor, _, _ = await started(Config(limit_mib=100))
    monkeypatch.setattr(memory_limiter.asyncio.get_running_loop(), "time", lambda: now_s[0])
    processor._collect_after_s, processor._collect_pause_s = 0.0, 1.0
    collected.clear()
    for second in range(100):
        now_s[0] = float(second)
        processor._check()
    monkeypatch.undo()
    await processor.shutdown()

    assert collected == [0, 2, 6, 14, 30, 60, 90]


async def test_a_collection_that_helps_lets_data_pass_again(resident, monkeypatch):
    resident(100)
    monkeypatch.setattr(gc, "collect", lambda: resident(50))
    processor, end, _ = await started(Config(limit_mib=100))
    await processor.consume(sink.log_batch("a"))
    await processor.shutdown()

    assert end.bodies() == ["a"]


async def test_memory_is_read_again_on_the_timer(resident):
    resident(90)
    processor, end, _ = await started(Config(limit_mib=100, check_interval=0.001))
    resident(10)
    for _ in range(1000):
        try:
            await processor.consume(sink.log_batch("a"))
            break
        except errors.Refused:
            await memory_limiter.asyncio.sleep(0.001)
    await processor.shutdown()

    assert end.bodies() == ["a"]


@pytest.mark.parametrize(
    ("config", "soft_mib", "hard_mib"),
    [
        (Config(limit_mib=100), 80, 100),
        (Config(limit_mib=100, spike_limit_mib=30), 70, 100),
        (Config(limit_percentage=50), 400, 500),
        (Config(limit_percentage=50, spike_limit_percentage=10), 400, 500),
        (Config(limit_mib=100, limit_percentage=50), 80, 100),
    ],
)
def test_limits_from_mib_or_from_a_percentage_of_what_there_is(config, soft_mib, hard_mib):
    limits = Limits.of(config, 1000 * MIB)

    assert limits == Limits(soft_bytes=soft_mib * MIB, hard_bytes=hard_mib * MIB)
    assert limits.level(soft_mib * MIB - 1) is Level.BELOW
    assert limits.level(hard_mib * MIB - 1) is Level.SOFT
    assert limits.level(hard_mib * MIB) is Level.HARD


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({}, ["limit_mib", "limit_percentage"]),
        ({"limit_mib": 10, "check_interval": 0.0}, ["check_interval"]),
        ({"limit_mib": 10, "spike_limit_mib": 10}, ["spike_limit_mib", "limit_mib"]),
        ({"limit_percentage": 101}, ["limit_percentage"]),
        (
            {"limit_percentage": 10, "spike_limit_percentage": 20},
            ["spike_limit_percentage", "limit_percentage"],
        ),
        ({"limit_mib": -1}, ["limit_mib"]),
    ],
)
def test_relations_that_cannot_hold_are_refused_with_their_keys(options, keys):
    ((path, message), *_) = Config(**options).validate()

    assert path in [(keys[0],), ()]
    assert all(f"`{key}`" in message for key in keys)


def test_the_memory_of_this_process_is_read_from_the_kernel():
    assert 1 * MIB < telemetry.resident_bytes() < memory.available_bytes()


@pytest.mark.parametrize(
    ("cgroup", "files", "expected_mib"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": f"{300 * MIB}"}, 300),
        ("4:cpu,memory:/a\n", {"memory/a/memory.limit_in_bytes": f"{200 * MIB}"}, 200),
        ("4:memory:/\n0::/a\n", {"memory/memory.limit_in_bytes": "9223372036854771712"}, 1000),
        ("0::/gone\n", {"memory.max": f"{100 * MIB}"}, 100),
    ],
)
def test_what_there_is_is_the_smallest_limit_above_us(tmp_path, cgroup, files, expected_mib):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text(f"MemFree: 1 kB\nMemTotal: {1000 * 1024} kB\n")
    (tmp_path / "proc/self/cgroup").write_text(cgroup)
    for name, content in files.items():
        path = tmp_path / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    assert memory.available_bytes(tmp_path) == expected_mib * MIB
