"""Real kills in real containers: the record's cgroup leads to the pod and the container."""

from __future__ import annotations

import asyncio
import contextlib
import pathlib
import secrets
import uuid
from collections.abc import Iterator

import pytest
from doubles import containerd, memory_cgroup, oom_capture

from otel_oom.kubernetes import paths

pytestmark = [pytest.mark.root, pytest.mark.containerd]

MIB = 1 << 20


SHAPES = {
    "cgroupfs, burstable": "/kubepods/burstable/pod{uid}/{id}",
    "cgroupfs, best effort": "/kubepods/besteffort/pod{uid}/{id}",
    "cgroupfs, guaranteed": "/kubepods/pod{uid}/{id}",
    "systemd": "/kubepods.slice/kubepods-burstable.slice/"
    "kubepods-burstable-pod{uid_}.slice/cri-containerd-{id}.scope",
    "systemd's spelling, cgroupfs' driver": "/kubepods-burstable-pod{uid_}.slice:cri-containerd:{id}",
}


@pytest.fixture(scope="module")
def runtime() -> Iterator[containerd.Containerd]:
    with containerd.running() as made:
        yield made


class Place:
    """A cgroup as a kubelet would name it, of a pod and container that nobody else has."""

    def __init__(self, shape: str) -> None:
        self.pod_uid, self.container_id = str(uuid.uuid4()), secrets.token_hex(32)
        underscored = self.pod_uid.replace("-", "_")
        self.cgroup = shape.format(uid=self.pod_uid, uid_=underscored, id=self.container_id)

    def group(self) -> memory_cgroup.MemoryCgroup:
        root = memory_cgroup.hierarchy()
        return memory_cgroup.MemoryCgroup(root / self.cgroup.lstrip("/"), root)

    def is_told_by(self, kill: oom_capture.Kill) -> bool:
        workload = paths.parse(kill["process.linux.cgroup"])
        told = workload.pod_uid, workload.container_id
        return told == (self.pod_uid, self.container_id)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_first_process_dies_in_the_first_second_of_the_container(
    runtime: containerd.Containerd, tmp_path: pathlib.Path, shape: str
) -> None:
    """The container is as good as gone before anyone could ask for its name."""
    place = Place(shape)
    async with oom_capture.running(tmp_path, within=place.group()) as agent:
        with _container(runtime, place, "hog", "eat=100M") as container:
            await asyncio.to_thread(container.wait)
            pid = container.pid
        kill = await agent.kill()

    assert kill["process.pid"] == pid
    assert kill["process.linux.cgroup"] == kill["oom.limit.cgroup"] == place.cgroup
    assert kill["oom.limit.bytes"] == 32 * MIB
    assert place.is_told_by(kill)


async def test_first_process_dies_because_another_asks(
    runtime: containerd.Containerd, tmp_path: pathlib.Path
) -> None:
    place = Place(SHAPES["cgroupfs, burstable"])
    async with oom_capture.running(tmp_path, within=place.group()) as agent:
        with _container(runtime, place, "hog", "adj=900", "eat=24M", "pause") as container:
            await _holds(place, 24 * MIB)
            pid = container.pid
            trigger = container.start("hog", "eat=16M", "pause")
            await asyncio.to_thread(container.wait)
            kill = await agent.kill()
        await asyncio.to_thread(trigger.communicate)

    assert kill["process.pid"] == pid
    assert kill["oom.trigger.is_victim"] is False
    assert kill["oom.trigger.cgroup"] == place.cgroup
    assert place.is_told_by(kill)


async def test_a_worker_dies_and_the_first_process_lives(
    runtime: containerd.Containerd, tmp_path: pathlib.Path
) -> None:
    """The runtime sees nothing of it: the container never ended."""
    place = Place(SHAPES["cgroupfs, burstable"])
    steps = ("hog", "spawn", "comm=worker", "eat=100M", "parent", "pause")
    async with oom_capture.running(tmp_path, within=place.group()) as agent:
        with _container(runtime, place, *steps) as container:
            kill = await agent.kill()
            assert container.is_running()
            first = container.pid

    assert kill["process.executable.name"] == "worker"
    assert kill["process.parent_pid"] == first
    assert place.is_told_by(kill)


async def test_a_process_that_was_added_dies(
    runtime: containerd.Containerd, tmp_path: pathlib.Path
) -> None:
    """What `kubectl exec` starts dies under the container's limit."""
    place = Place(SHAPES["cgroupfs, burstable"])
    async with oom_capture.running(tmp_path, within=place.group()) as agent:
        with _container(runtime, place, "hog", "pause") as container:
            added = container.start("hog", "comm=added", "eat=100M")
            await asyncio.to_thread(added.communicate)
            kill = await agent.kill()
            assert container.is_running()

    assert added.returncode == containerd.KILLED
    assert kill["process.executable.name"] == "added"
    assert place.is_told_by(kill)


def test_nothing_is_left(runtime: containerd.Containerd) -> None:
    place = Place(SHAPES["systemd"])
    with _container(runtime, place, "hog", "pause") as container:
        process = pathlib.Path("/proc") / str(container.pid)
        assert place.group().pids()

    assert not process.exists()
    assert not place.group().path.parent.exists()
    assert place.container_id not in runtime.ask("containers", "ls", "--quiet")


def _container(
    runtime: containerd.Containerd, place: Place, *command: str
) -> contextlib.AbstractContextManager[containerd.Container]:
    return runtime.container(
        place.cgroup, *command, limit_bytes=32 * MIB, container_id=place.container_id
    )


async def _holds(place: Place, size_bytes: int) -> None:
    async with asyncio.timeout(oom_capture.PATIENCE_S):
        while place.group().usage_bytes() < size_bytes:
            await asyncio.sleep(0.01)
