"""Who a resource is of: the ways in their order, and what is said when none leads there."""

from __future__ import annotations

import pytest
from doubles import cluster_source as objects
from doubles import enriching
from doubles.enriching import ID, SLICE, UID, path

from otel_oom.kubernetes.source import Kind

OTHER = "b" * 64


async def test_a_container_is_named_by_the_path_of_its_cgroup(monkeypatch):
    async with enriching.running(monkeypatch, objects.Objects(objects.pod())) as bench:
        found = await bench.of_path()
    assert found == {
        "process.linux.cgroup": path(),
        "k8s.match": "container_id",
        "container.id": ID,
        "container.runtime.name": "containerd",
        "container.image.name": "registry.example:5000/app",
        "container.image.tags": ["1.2"],
        "k8s.container.name": "app",
        "k8s.namespace.name": "shop",
        "k8s.node.name": "node-1",
        "k8s.pod.name": "web-7d4b9c-x2x4z",
        "k8s.pod.start_time": "2026-11-21T10:00:00Z",
        "k8s.pod.uid": UID,
    }


async def test_the_previous_the_init_and_the_ephemeral_container_are_named(monkeypatch):
    pod = objects.pod(
        spec={
            "initContainers": [{"name": "setup", "image": "setup:1"}],
            "ephemeralContainers": [{"name": "debug", "image": "debug:1"}],
        },
        status={
            "containerStatuses": [
                objects.status("app", OTHER, restarts=1, lastState=objects.ended(ID))
            ],
            "initContainerStatuses": [objects.status("setup", "c" * 64)],
            "ephemeralContainerStatuses": [objects.status("debug", "d" * 64)],
        },
    )
    async with enriching.running(monkeypatch, objects.Objects(pod)) as bench:
        for id_, name in ((ID, "app"), (OTHER, "app"), ("c" * 64, "setup"), ("d" * 64, "debug")):
            found = await bench.of_path(path(id_))
            assert (found["k8s.container.name"], found["k8s.match"]) == (name, "container_id")
            assert found["container.image.name"].endswith(name)


async def test_an_unknown_container_of_a_known_pod_is_not_guessed(monkeypatch):
    options = {"late_timeout": "0s"}
    async with enriching.running(monkeypatch, objects.Objects(objects.pod()), **options) as bench:
        found = await bench.of_path(path(OTHER))
    assert found["k8s.match"] == "pod_uid"
    assert found["k8s.miss"] == "container_unknown"
    assert found["k8s.pod.name"] == "web-7d4b9c-x2x4z"
    assert found["container.id"] == OTHER
    assert "k8s.container.name" not in found


async def test_a_static_pod_is_named_with_the_uid_of_the_api(monkeypatch):
    pod = objects.pod(
        uid="api-uid",
        containers={"app": ""},
        metadata={"annotations": {"kubernetes.io/config.hash": UID}},
    )
    options = {"late_timeout": "0s"}
    async with enriching.running(monkeypatch, objects.Objects(pod), **options) as bench:
        found = await bench.of_path()
    assert (found["k8s.match"], found["k8s.pod.uid"]) == ("pod_uid", "api-uid")


@pytest.mark.parametrize(
    ("attributes", "match", "container"),
    [
        ({"k8s_pod_uid": UID}, "pod_uid", "app"),
        ({"k8s_pod_ip": "10.0.0.7"}, "pod_ip", "app"),
        ({"ip": "10.0.0.7"}, "pod_ip", "app"),
        ({"host_name": "10.0.0.7"}, "pod_ip", "app"),
        ({"container_id": ID}, "container_id", "app"),
        (
            {"k8s_pod_name": "web-7d4b9c-x2x4z", "k8s_namespace_name": "shop"},
            "resource_attributes",
            "app",
        ),
        ({"k8s_pod_uid": UID, "k8s_container_name": "app"}, "pod_uid", "app"),
        ({"k8s_pod_uid": UID, "k8s_container_name": "none"}, "pod_uid", "none"),
    ],
)
async def test_attributes_lead_to_the_pod_where_there_is_no_cgroup(
    monkeypatch, attributes, match, container
):
    async with enriching.running(monkeypatch, objects.Objects(objects.pod())) as bench:
        found = await bench.attributes(**attributes)
    assert found["k8s.match"] == match
    assert found["k8s.pod.name"] == "web-7d4b9c-x2x4z"
    assert found.get("k8s.container.name") == container


@pytest.mark.parametrize(
    ("attributes", "match", "miss"),
    [
        ({"process_linux_cgroup": "/system.slice/ssh.service"}, "none", "not_in_a_pod"),
        ({"process_linux_cgroup": f"/docker/{OTHER}"}, "cgroup", "not_in_a_pod"),
        ({"process_linux_cgroup": "/"}, "none", "not_in_a_pod"),
        ({}, "none", "no_identity"),
        ({"host_name": "node-1"}, "none", "no_identity"),
        ({"host_name": "10.9.9.9"}, "none", "pod_unknown"),
        ({"process_linux_cgroup": path(OTHER).replace("1111", "9999")}, "cgroup", "pod_unknown"),
    ],
)
async def test_what_is_not_matched_says_why(monkeypatch, attributes, match, miss):
    options = {"late_timeout": "0s"}
    async with enriching.running(monkeypatch, objects.Objects(objects.pod()), **options) as bench:
        found = await bench.attributes(**attributes)
    assert (found["k8s.match"], found["k8s.miss"]) == (match, miss)
    assert "k8s.pod.name" not in found


async def test_without_anyone_to_ask_the_path_tells_container_and_pod(monkeypatch):
    async with enriching.running(monkeypatch, None) as bench:
        found = await bench.of_path()
    assert found == {
        "process.linux.cgroup": path(),
        "k8s.match": "cgroup",
        "k8s.miss": "no_source",
        "container.id": ID,
        "container.runtime.name": "containerd",
        "k8s.pod.uid": UID,
    }


async def test_before_the_first_list_that_is_the_reason(monkeypatch):
    source = objects.Objects(synced=False)
    async with enriching.running(monkeypatch, source, late_timeout="0s") as bench:
        assert (await bench.of_path())["k8s.miss"] == "not_synced"
        source.synced = True
        assert (await bench.of_path())["k8s.miss"] == "pod_unknown"


@pytest.mark.parametrize(
    "more",
    [
        {"metadata": {"name": "jaeger-agent-1"}},
        {"metadata": {"annotations": {"opentelemetry.io/k8s-processor/ignore": " True "}}},
    ],
)
async def test_an_excluded_pod_is_passed_over(monkeypatch, more):
    async with enriching.running(monkeypatch, objects.Objects(objects.pod(**more))) as bench:
        found = await bench.of_path()
    assert (found["k8s.match"], found["k8s.miss"]) == ("cgroup", "excluded")
    assert "k8s.pod.name" not in found


async def test_what_a_resource_says_itself_stays_unless_it_is_empty(monkeypatch):
    async with enriching.running(monkeypatch, objects.Objects(objects.pod())) as bench:
        found = await bench.attributes(
            process_linux_cgroup=path(), k8s_namespace_name="mine", k8s_node_name="", kept=7, nil=""
        )
    assert found["k8s.namespace.name"] == "mine"
    assert found["k8s.node.name"] == "node-1"
    assert (found["kept"], found["nil"]) == (7, "")


async def test_a_rule_of_the_user_comes_first_and_falls_through(monkeypatch):
    pods = (
        objects.pod("one", uid="one", ip="10.0.0.1", metadata={"labels": {"app": "shop"}}),
        objects.pod("two", uid="two", ip="10.0.0.2", containers={"app": OTHER}),
    )
    rules = [
        {"sources": [{"from": "connection"}]},
        {"sources": [{"from": "resource_attribute", "name": "app.label"}]},
        {
            "sources": [
                {"from": "resource_attribute", "name": "k8s.pod.name"},
                {"from": "resource_attribute", "name": "container.id"},
            ]
        },
    ]
    extract = {"labels": [{"key": "app", "tag_name": "app.label"}]}
    options = {"pod_association": rules, "extract": extract}
    async with enriching.running(monkeypatch, objects.Objects(*pods), **options) as bench:
        by_label = await bench.attributes(app_label="shop", k8s_pod_ip="10.0.0.2")
        by_both = await bench.attributes(k8s_pod_name="two", container_id=OTHER)
        through = await bench.attributes(app_label="other", k8s_pod_ip="10.0.0.2")
        neither = await bench.attributes(k8s_pod_name="one", container_id=OTHER)
    assert (by_label["k8s.pod.name"], by_label["k8s.match"]) == ("one", "resource_attributes")
    assert (by_both["k8s.pod.name"], by_both["k8s.match"]) == ("two", "resource_attributes")
    assert (through["k8s.pod.name"], through["k8s.match"]) == ("two", "pod_ip")
    assert neither["k8s.match"] == "container_id"


async def test_a_changed_pod_changes_what_its_records_say(monkeypatch):
    source = objects.Objects(objects.pod())
    extract = {"labels": [{"key": "v"}]}
    async with enriching.running(monkeypatch, source, extract=extract) as bench:
        assert "k8s.pod.label.v" not in await bench.of_path()
        source.put(Kind.POD, objects.pod(metadata={"labels": {"v": "2"}}))
        assert (await bench.of_path())["k8s.pod.label.v"] == "2"


async def test_a_pod_that_is_gone_still_names_its_last_records(monkeypatch):
    source = objects.Objects(objects.pod())
    async with enriching.running(monkeypatch, source) as bench:
        source.remove(Kind.POD, objects.pod())
        assert (await bench.of_path())["k8s.container.name"] == "app"


async def test_a_cgroup_of_the_pod_itself_names_no_container(monkeypatch):
    async with enriching.running(monkeypatch, objects.Objects(objects.pod())) as bench:
        found = await bench.of_path(SLICE)
    assert found["k8s.match"] == "pod_uid"
    assert "k8s.miss" not in found
    assert "k8s.container.name" not in found
