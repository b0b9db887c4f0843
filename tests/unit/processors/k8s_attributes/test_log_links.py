"""A container that its pod's status does not name yet is named by the node's own links."""

from __future__ import annotations

import asyncio
import pathlib

from doubles import cluster_source as objects
from doubles import enriching, sink
from doubles.enriching import ID, UID, path
from doubles.virtual_loop import now_s, scenario

OTHER = "b" * 64


def link(folder: pathlib.Path, container: str, container_id: str, uid: str = UID) -> None:
    name = f"web-7d4b9c-x2x4z_shop_{container}-{container_id}.log"
    (folder / name).symlink_to(f"/var/log/pods/shop_web-7d4b9c-x2x4z_{uid}/{container}/2.log")


def running(patch, folder, source):
    return enriching.running(patch, source, log_links_folder=str(folder))


@scenario
async def test_no_record_waits_for_what_a_link_tells(monkeypatch, tmp_path):
    link(tmp_path, "app", ID)

    source = objects.Objects(objects.pod(containers={"app": "", "other": ""}))
    async with running(monkeypatch, tmp_path, source) as bench:
        found = await bench.of_path()
        assert (found["k8s.match"], found["k8s.container.name"]) == ("container_id", "app")
        assert "k8s.miss" not in found
        assert (now_s(), source.pokes) == (0, 0)


@scenario
async def test_a_link_that_comes_late_ends_the_waiting(monkeypatch, tmp_path):
    source = objects.Objects(objects.pod(containers={"app": ""}))
    async with running(monkeypatch, tmp_path, source) as bench:
        await bench.consume(sink.log_batch("a", resource={"process.linux.cgroup": path()}))
        await asyncio.sleep(0.4)
        assert bench.end.batches == []
        link(tmp_path, "app", ID)
        await bench.end.wait_for_items(1)
        assert now_s() < 1
        assert enriching.resource_of(bench.end.batches[0])["k8s.container.name"] == "app"


@scenario
async def test_what_one_pipeline_learns_ends_the_waiting_of_the_others(monkeypatch, tmp_path):
    """Of a kill there are a record and a span, and either may be the first to find the link."""
    source = objects.Objects(objects.pod(containers={"app": ""}))
    async with running(monkeypatch, tmp_path, source) as bench:
        spans = enriching.Bench(enriching.config(log_links_folder=str(tmp_path)), bench.around)
        await spans.processor.start()
        await bench.consume(sink.log_batch("a", resource={"process.linux.cgroup": path()}))
        link(tmp_path, "app", ID)
        found = await spans.of_path()
        assert (now_s(), found["k8s.container.name"]) == (0, "app")
        await bench.end.wait_for_items(1)
        assert now_s() < 1
        assert enriching.resource_of(bench.end.batches[0])["k8s.container.name"] == "app"
        await spans.processor.shutdown()


@scenario
async def test_a_link_of_another_pod_or_container_is_not_believed(monkeypatch, tmp_path):
    link(tmp_path, "app", ID, uid="another")
    link(tmp_path, "app", OTHER)

    source = objects.Objects(objects.pod(containers={"app": ""}))
    async with running(monkeypatch, tmp_path, source) as bench:
        found = await bench.of_path()
        assert found["k8s.miss"] == "container_unknown"
        assert "k8s.container.name" not in found


@scenario
async def test_what_the_status_says_afterwards_counts(monkeypatch, tmp_path):
    """The instance is remembered with the pod, whatever its later states name."""
    link(tmp_path, "app", ID)

    source = objects.Objects(objects.pod(containers={"app": ""}))
    async with running(monkeypatch, tmp_path, source) as bench:
        await bench.of_path()
        source.put(objects.Kind.POD, objects.pod(containers={"app": OTHER}))
        next(tmp_path.iterdir()).unlink()
        for each in (ID, OTHER):
            found = await bench.of_path(path(each))
            assert found["k8s.container.name"] == "app"


@scenario
async def test_who_is_polled_is_asked_again_while_a_record_waits(monkeypatch, tmp_path):
    source = objects.Objects(objects.pod(containers={"app": ""}))
    async with running(monkeypatch, tmp_path, source) as bench:
        found = await bench.of_path()
        assert found["k8s.miss"] == "container_unknown"
        assert 10 <= source.pokes <= 21  # ten times a second, for two seconds
