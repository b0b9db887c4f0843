"""Real kills: what the victim says of its service, and the first process of its container."""

from __future__ import annotations

import asyncio
import os
import pathlib
import shutil

import pytest
from doubles import cluster_source, enriching, memory_cgroup, oom_capture, sink

from otel_oom.config.types import Duration
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.processors import k8s_attributes
from otel_oom.processors.k8s_attributes import chunks, sources
from otel_oom.processors.k8s_attributes.config import Config

pytestmark = pytest.mark.root
MIB = 1 << 20
OWN = {
    "OTEL_SERVICE_NAME": "checkout",
    "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.name=other",
    "DATABASE_PASSWORD": "hunter2",
}
PREFIX = "process.environment_variable."
UNSHARE = shutil.which("unshare")


def _many(count: int) -> dict[str, str]:
    return {f"V{index}": "hunter2" for index in range(count)}


def _long(name: str, length: int) -> dict[str, str]:
    """A variable of so many bytes, `NAME=` included and its NUL not."""
    key = f"OTEL_{name}"
    return {key: "x" * (length - len(key) - 1)}


async def killed(group: memory_cgroup.MemoryCgroup) -> None:
    with group.hog("eat=100M", env=os.environ | OWN) as hog:
        await asyncio.to_thread(hog.wait)


async def test_the_victims_variables_are_on_its_record_and_no_others(
    group: memory_cgroup.MemoryCgroup, tmp_path: pathlib.Path
) -> None:
    async with oom_capture.running(tmp_path, within=group) as agent:
        await killed(group)
        kill = await agent.kill()
    assert kill[f"{PREFIX}OTEL_SERVICE_NAME"] == "checkout"
    assert kill[f"{PREFIX}OTEL_RESOURCE_ATTRIBUTES"] == OWN["OTEL_RESOURCE_ATTRIBUTES"]
    assert {key for key in kill.attributes if key.startswith(PREFIX)} == {
        f"{PREFIX}OTEL_SERVICE_NAME",
        f"{PREFIX}OTEL_RESOURCE_ATTRIBUTES",
    }
    assert b"hunter2" not in kill.log.SerializeToString()


@pytest.mark.parametrize(
    ("environment", "found", "reason"),
    [
        ({}, {}, ""),
        (_many(255) | _long("SERVICE_NAME", 2046), {"SERVICE_NAME"}, ""),
        (_many(256) | OWN, {}, "it is not among the first 256 of its environment"),
        (_long("SERVICE_NAME", 2047), {}, "one of them is not shorter than 2 KiB"),
        ({"A": "=OTEL_SERVICE_NAME=x" * 500} | OWN, {"SERVICE_NAME", "RESOURCE_ATTRIBUTES"}, ""),
        ({"A": "x" * 2045} | OWN, {"SERVICE_NAME", "RESOURCE_ATTRIBUTES"}, ""),
        ({"A": "x" * 2043 + "OTEL_SERVICE_NAME=x"}, {}, ""),
    ],
    ids=["none", "last", "beyond", "too long", "behind a long one", "behind 2 KiB", "in pieces"],
)
async def test_they_are_looked_for_in_a_bounded_part_of_the_environment(
    group: memory_cgroup.MemoryCgroup,
    tmp_path: pathlib.Path,
    environment: dict[str, str],
    found: set[str],
    reason: str,
) -> None:
    async with oom_capture.running(tmp_path, within=group) as agent:
        pairs = [f"{name}={value}" for name, value in environment.items()]
        hog = str(memory_cgroup.hog_binary())
        with group.run("env", "-i", *pairs, hog, "eat=100M") as victim:  # a shell adds its own
            await asyncio.to_thread(victim.wait)
        kill = await agent.kill()
    assert {key for key in kill.attributes if key.startswith(PREFIX)} == {
        f"{PREFIX}OTEL_{name}" for name in found
    }
    assert kill.missing.get(f"{PREFIX}*", "") == reason


async def test_they_are_left_out_if_they_are_not_wanted(
    group: memory_cgroup.MemoryCgroup, tmp_path: pathlib.Path
) -> None:
    async with oom_capture.running(tmp_path, within=group, service_variables=False) as agent:
        await killed(group)
        kill = await agent.kill()
    assert b"checkout" not in kill.log.SerializeToString()
    assert not any(name.startswith(PREFIX) for name in kill.missing)


@pytest.mark.skipif(UNSHARE is None, reason="needs unshare: `apt-get install util-linux`")
async def test_the_first_process_of_a_container_is_named_when_its_worker_dies(
    group: memory_cgroup.MemoryCgroup, tmp_path: pathlib.Path
) -> None:
    steps = ("spawn", "comm=worker", "eat=100M", "parent", "pause")
    command = (UNSHARE, "--pid", "--fork", "--kill-child", memory_cgroup.hog_binary(), *steps)
    async with oom_capture.running(tmp_path, within=group) as agent:
        with group.run(*map(str, command)) as container:
            kill = await agent.kill()
            container.kill()
    assert kill["process.executable.name"] == "worker"
    assert kill["oom.init.process.pid"] == kill["process.parent_pid"]
    assert kill["oom.init.process.command_args"] == [str(memory_cgroup.hog_binary()), *steps]
    (init,) = [each for each in kill["oom.processes"] if each["role"] == "container_init"]
    assert init["pid"] == kill["oom.init.process.pid"]


def hand_on(agent: oom_capture.Agent, processor: k8s_attributes.K8sAttributesProcessor) -> None:
    """Let the processor have the log records of our cgroup, too."""
    keep = agent.consume

    async def consume(batch: Batch) -> None:
        if batch.signal is Signal.LOGS:
            ours = [c for c in chunks.read(batch.encoded()) if enriching.ID.encode() in c.resource]
            for chunk in ours:
                items = chunks.items(batch.signal, chunk)
                await processor.consume(Batch(batch.signal, chunks.write(chunk), items))
        await keep(batch)

    agent.consume = consume  # type: ignore[method-assign]


async def test_from_the_ring_through_the_processor(
    group: memory_cgroup.MemoryCgroup, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cgroup as a kubelet names it: the pod is told late, the service by the victim itself."""
    source = cluster_source.Objects()

    async def make(*_: object) -> cluster_source.Objects:
        return source

    monkeypatch.setattr(sources, "make", make)
    pods = group.child("kubepods").child("burstable")
    own = pods.child(f"pod{enriching.UID}").child(enriching.ID, 16 * MIB)
    end, bench = sink.Sink(), sink.Bench()
    config = Config(late_timeout=Duration(60.0))
    processor = k8s_attributes.FACTORY.create(bench.settings("k8s_attributes"), config, end)
    await processor.start()
    try:
        async with oom_capture.running(tmp_path, within=own) as agent:
            hand_on(agent, processor)
            await killed(own)
            await agent.kill()
        assert end.items == 0  # the pod is not known yet
        limits = {"resources": {"limits": {"memory": "16Mi"}}}
        spec = {"containers": [{"name": "app", "image": "app:1", **limits}]}
        source.put(cluster_source.Kind.POD, cluster_source.pod(spec=spec))
        await end.wait_for_items(1)
    finally:
        await processor.shutdown()
    found = enriching.resource_of(end.batches[0])
    assert found["k8s.match"] == "container_id"
    assert found["k8s.container.name"] == "app"
    assert found["service.name"] == "checkout"
    record = oom_capture.Kill(end.batches[0].data.resource_logs[0].scope_logs[0].log_records[0])
    assert record["oom.limit.level"] == "container"
    assert record["oom.limit.versus_spec"] == "equal"
    assert record["oom.container.memory.limit"] == record["oom.limit.bytes"] == 16 * MIB
