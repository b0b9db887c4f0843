"""What is extracted: every attribute, from whom it is, and what wins."""

from __future__ import annotations

import typing

import pytest
from doubles import cluster_source as objects
from doubles import enriching

from otel_oom.kubernetes.source import Kind
from otel_oom.processors.k8s_attributes.config import Metadata

ALL = list(typing.get_args(Metadata))
DIGEST = "sha256:" + "0f" * 32
REPLICA_SET = objects.owner("ReplicaSet", "web-7d4b9c", "rs")


async def extracted(monkeypatch, pod, *others, **extract):
    source = objects.Objects(pod)
    for kind, found in others:
        source.put(kind, found)
    async with enriching.running(monkeypatch, source, extract=extract) as bench:
        return await bench.of_path()


async def test_all_metadata_of_a_pod_of_a_deployment(monkeypatch):
    pod = objects.pod(
        metadata={"ownerReferences": [REPLICA_SET]},
        spec={"hostname": "web", "containers": [{"name": "app", "image": f"a/app:1@{DIGEST}"}]},
        status={
            "containerStatuses": [
                objects.status("app", enriching.ID, imageID=f"docker.io/a/app@{DIGEST}")
            ]
        },
    )
    deployment = objects.owner("Deployment", "web", "deploy")
    found = await extracted(
        monkeypatch,
        pod,
        (Kind.REPLICA_SET, objects.partial("web-7d4b9c", "rs", ownerReferences=[deployment])),
        (Kind.NODE, objects.partial("node-1", "node-uid")),
        (Kind.NAMESPACE, objects.partial("kube-system", "cluster-uid")),
        metadata=ALL,
    )
    expected = {
        "k8s.pod.hostname": "web",
        "k8s.pod.ip": "10.0.0.7",
        "k8s.replicaset.name": "web-7d4b9c",
        "k8s.replicaset.uid": "rs",
        "k8s.deployment.name": "web",
        "k8s.deployment.uid": "deploy",
        "k8s.node.uid": "node-uid",
        "k8s.cluster.uid": "cluster-uid",
        "container.image.name": "a/app",
        "container.image.tag": "1",
        "container.image.tags": ["1"],
        "container.image.repo_digests": [f"docker.io/a/app@{DIGEST}"],
        "service.name": "web",
        "service.namespace": "shop",
        "service.version": f"1@{DIGEST}",
        "service.instance.id": "shop.web-7d4b9c-x2x4z.app",
    }
    assert {key: found.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("labels", "name"),
    [({"pod-template-hash": "7d4b9c"}, "web"), ({"pod-template-hash": "7d4b9"}, None), ({}, None)],
)
async def test_a_deployment_is_named_by_the_hash_of_its_template(monkeypatch, labels, name):
    pod = objects.pod(metadata={"ownerReferences": [REPLICA_SET], "labels": labels})
    found = await extracted(monkeypatch, pod)
    assert found.get("k8s.deployment.name") == name


async def test_a_name_that_may_have_been_cut_tells_nothing(monkeypatch):
    reference = objects.owner("ReplicaSet", f"{'w' * 246}-7d4b9c", "rs")
    pod = objects.pod(
        metadata={"ownerReferences": [reference], "labels": {"pod-template-hash": "7d4b9c"}}
    )
    assert "k8s.deployment.name" not in await extracted(monkeypatch, pod)


async def test_a_replica_set_without_a_deployment_has_none(monkeypatch):
    pod = objects.pod(
        metadata={"ownerReferences": [REPLICA_SET], "labels": {"pod-template-hash": "7d4b9c"}}
    )
    alone = (Kind.REPLICA_SET, objects.partial("web-7d4b9c", "rs"))
    assert "k8s.deployment.name" not in await extracted(monkeypatch, pod, alone)


# 29,920,920 minutes after 1970 is the time of the pod, 29,727,960 a day in July.
@pytest.mark.parametrize(
    ("job", "name"),
    [("tick-29921880", "tick"), ("tick-29727960", None), ("tick-20261121", None), ("tick", None)],
)
async def test_a_cron_job_is_named_by_the_minute_of_its_job(monkeypatch, job, name):
    pod = objects.pod(metadata={"ownerReferences": [objects.owner("Job", job, "job")]})
    found = await extracted(monkeypatch, pod, metadata=["k8s.cronjob.name", "k8s.job.name"])
    assert found.get("k8s.cronjob.name") == name
    assert found["k8s.job.name"] == job


async def test_a_cron_job_is_asked_for_where_jobs_are_known(monkeypatch):
    pod = objects.pod(metadata={"ownerReferences": [objects.owner("Job", "odd", "job")]})
    above = objects.owner("CronJob", "nightly", "cron")
    job = (Kind.JOB, objects.partial("odd", "job", ownerReferences=[above]))
    metadata = ["k8s.cronjob.name", "k8s.cronjob.uid", "service.name"]
    found = await extracted(monkeypatch, pod, job, metadata=metadata)
    assert (found["k8s.cronjob.name"], found["k8s.cronjob.uid"]) == ("nightly", "cron")
    assert found["service.name"] == "nightly"


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
async def test_the_other_owners(monkeypatch, kind):
    pod = objects.pod(metadata={"ownerReferences": [objects.owner(kind, "db", "uid-1")]})
    found = await extracted(monkeypatch, pod, metadata=ALL)
    assert found[f"k8s.{kind.lower()}.name"] == "db"
    assert found[f"k8s.{kind.lower()}.uid"] == "uid-1"
    assert found["service.name"] == "db"


INSTANCE, NAME = "app.kubernetes.io/instance", "app.kubernetes.io/name"
VERSION = "app.kubernetes.io/version"
ANNOTATED = {"resource.opentelemetry.io/service.name": "annotated"}


@pytest.mark.parametrize(
    ("labels", "annotations", "name"),
    [
        ({}, {}, "web-7d4b9c"),
        ({NAME: "named"}, {}, "named"),
        ({NAME: "named", INSTANCE: "instance"}, {}, "instance"),
        ({NAME: "named", INSTANCE: "instance"}, ANNOTATED, "annotated"),
    ],
)
async def test_the_name_of_a_service_by_the_order_of_the_conventions(
    monkeypatch, labels, annotations, name
):
    pod = objects.pod(
        metadata={
            "ownerReferences": [REPLICA_SET],
            "labels": labels,
            "annotations": annotations,
        }
    )
    options = {"metadata": ["service.name"], "otel_annotations": True}
    assert (await extracted(monkeypatch, pod, **options))["service.name"] == name


async def test_the_version_of_a_service(monkeypatch):
    wanted = {"metadata": ["service.version"], "otel_annotations": True}
    assert (await extracted(monkeypatch, objects.pod(), **wanted))["service.version"] == "1.2"
    pod = objects.pod(metadata={"labels": {VERSION: "9"}})
    assert (await extracted(monkeypatch, pod, **wanted))["service.version"] == "9"
    annotations = {"resource.opentelemetry.io/service.version": "10"}
    pod = objects.pod(metadata={"labels": {VERSION: "9"}, "annotations": annotations})
    assert (await extracted(monkeypatch, pod, **wanted))["service.version"] == "10"


async def test_labels_and_annotations_of_all_kinds(monkeypatch):
    kinds = {
        "namespace": (Kind.NAMESPACE, objects.partial("shop", "u1", labels={"t": "namespace"})),
        "node": (Kind.NODE, objects.partial("node-1", "u2", labels={"t": "node"})),
        "replicaset": (
            Kind.REPLICA_SET,
            objects.partial(
                "web-7d4b9c",
                "rs",
                labels={"t": "replicaset"},
                ownerReferences=[objects.owner("Deployment", "web", "deploy")],
            ),
        ),
        "deployment": (
            Kind.DEPLOYMENT,
            objects.partial("web", "deploy", labels={"t": "deployment"}),
        ),
    }
    pod = objects.pod(
        metadata={
            "ownerReferences": [REPLICA_SET],
            "labels": {"t": "pod"},
            "annotations": {"n": "1"},
        }
    )
    found = await extracted(
        monkeypatch,
        pod,
        *kinds.values(),
        labels=[{"key": "t", "tag_name": f"{kind}.t", "from": kind} for kind in ("pod", *kinds)],
        annotations=[{"key_regex": "(n)", "tag_name": "got.$1"}],
    )
    assert {kind: found[f"{kind}.t"] for kind in ("pod", *kinds)} == {k: k for k in ("pod", *kinds)}
    assert found["got.n"] == "1"


async def test_only_what_is_asked_for_is_set(monkeypatch):
    found = await extracted(monkeypatch, objects.pod(), metadata=["k8s.pod.name"])
    assert {key for key in found if key.startswith(("k8s.", "service.", "container."))} == {
        "k8s.match",
        "k8s.pod.name",
        "k8s.pod.uid",  # these two are of the path
        "container.id",
        "container.runtime.name",
    }


async def test_what_comes_later_of_an_owner_is_on_the_next_record(monkeypatch):
    pod = objects.pod(metadata={"ownerReferences": [REPLICA_SET]})
    source = objects.Objects(pod)
    async with enriching.running(monkeypatch, source) as bench:
        assert "k8s.deployment.name" not in await bench.of_path()
        deployment = objects.owner("Deployment", "web", "deploy")
        source.put(
            Kind.REPLICA_SET, objects.partial("web-7d4b9c", "rs", ownerReferences=[deployment])
        )
        assert (await bench.of_path())["k8s.deployment.name"] == "web"
