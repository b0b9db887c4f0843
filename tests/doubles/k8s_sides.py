"""The same resources through both processors: ours in this process, the collector's in the collector."""

from __future__ import annotations

import contextlib
import json
import pathlib
import textwrap
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from doubles import kube_client, real_collector, sink

from otel_oom.pipeline import otlp
from otel_oom.pipeline.component import Kind
from otel_oom.processors import k8s_attributes
from otel_oom.service import config as configs

CASE = "test.case"
"""The attribute by which a resource is known again."""
_COMMON = """
auth_type: kubeConfig
wait_for_metadata: true
pod_association:
  - sources: [{from: resource_attribute, name: container.id}]
  - sources: [{from: resource_attribute, name: k8s.pod.uid}]
  - sources: [{from: resource_attribute, name: k8s.pod.ip}]
  - sources:
      - {from: resource_attribute, name: k8s.pod.name}
      - {from: resource_attribute, name: k8s.namespace.name}
"""
BLOCKS = {
    "defaults": _COMMON,
    "all metadata": _COMMON
    + """
extract:
  metadata:
    - k8s.namespace.name
    - k8s.pod.name
    - k8s.pod.uid
    - k8s.pod.hostname
    - k8s.pod.ip
    - k8s.pod.start_time
    - k8s.replicaset.name
    - k8s.replicaset.uid
    - k8s.deployment.name
    - k8s.deployment.uid
    - k8s.daemonset.name
    - k8s.daemonset.uid
    - k8s.statefulset.name
    - k8s.statefulset.uid
    - k8s.job.name
    - k8s.job.uid
    - k8s.cronjob.name
    - k8s.cronjob.uid
    - k8s.node.name
    - k8s.node.uid
    - k8s.cluster.uid
    - k8s.container.name
    - container.id
    - container.image.name
    - container.image.tags
    - container.image.repo_digests
    - service.namespace
    - service.name
    - service.version
    - service.instance.id
""",
    "labels and annotations": _COMMON
    + """
extract:
  metadata: [k8s.namespace.name, k8s.node.name, k8s.pod.uid, service.name, service.version]
  otel_annotations: true
  labels:
    - {tag_name: app, key: app}
    - {key: release}
    - {tag_name: $$1, key_regex: app\\.kubernetes\\.io/(.*)}
    - {tag_name: team, key: team, from: namespace}
    - {key_regex: "ti.*", from: namespace}
    - {tag_name: zone, key: topology.kubernetes.io/zone, from: node}
    - {tag_name: tier.of.deployment, key: tier, from: deployment}
  annotations:
    - {key: build}
    - {key: contact, from: namespace}
    - {tag_name: rack, key: rack, from: node}
    - {tag_name: note.of.deployment, key: note, from: deployment}
    - {tag_name: note.of.statefulset, key: note, from: statefulset}
    - {tag_name: note.of.daemonset, key: note, from: daemonset}
    - {tag_name: note.of.job, key: note, from: job}
""",
    "passed over": _COMMON
    + """
extract: {metadata: [k8s.pod.uid, k8s.pod.name]}
filter:
  namespace: shop
  labels: [{key: app, op: not-equals, value: once}]
exclude: {pods: [{name: "^lonely"}]}
""",
    "connection": """
auth_type: kubeConfig
wait_for_metadata: true
pod_association: [{sources: [{from: connection}]}]
extract: {metadata: [k8s.pod.uid, k8s.pod.name]}
""",
    "passthrough": """
auth_type: kubeConfig
passthrough: true
pod_association: [{sources: [{from: connection}]}]
""",
}
"""Options as a collector's user writes them; both sides are given the same text."""
Resources = dict[str, dict[str, Any]]


def kubeconfig(server: kube_client.Client, folder: pathlib.Path) -> pathlib.Path:
    """A file that names the server, its authority and the client's token."""
    path = folder / "kubeconfig"
    name = {"name": "test"}
    cluster = {"server": server.url, "certificate-authority": str(server.ca)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{**name, "cluster": cluster}],
        "users": [{**name, "user": {"token": server.token}}],
        "contexts": [{**name, "context": {"cluster": "test", "user": "test"}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(content))
    return path


@contextlib.contextmanager
def collector(
    binary: pathlib.Path, folder: pathlib.Path, block: str, kubeconfig: pathlib.Path
) -> Iterator[real_collector.Collector]:
    """The real collector with `block`, YAML of the processor's options, for logs."""
    more = (
        f"processors:\n  k8s_attributes:\n{textwrap.indent(block, '    ')}\n"
        "service: {pipelines: {logs: {processors: [k8s_attributes, batch]}}}\n"
    )
    environment = {"KUBECONFIG": str(kubeconfig)}
    with real_collector.running(binary, folder, more=more, environment=environment) as peer:
        yield peer


def theirs(peer: real_collector.Collector, cases: Mapping[str, Mapping[str, str]]) -> Resources:
    """What the collector makes of the resources."""
    body = json.dumps({"resourceLogs": [_message(*case) for case in cases.items()]}).encode()
    request = urllib.request.Request(
        peer.http_endpoint + "/v1/logs", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        answer.read()
    peer.log_records(len(cases))
    found = {}
    for message in peer.messages():
        for resource in message["resourceLogs"]:
            attributes = {
                pair["key"]: _value(pair["value"])
                for pair in resource["resource"].get("attributes", [])
            }
            found[attributes.pop(CASE)] = attributes
    return found


async def ours(block: str, cases: Mapping[str, Mapping[str, str]]) -> Resources:
    """What our processor makes of them, from the same text."""
    config = _config(block)
    bench, end = sink.Bench(), sink.Sink()
    settings = bench.settings("k8s_attributes")
    processor = k8s_attributes.FACTORY.create(settings, config, end)
    await processor.start()
    for name, attributes in cases.items():
        await processor.consume(sink.log_batch("a", resource={CASE: name, **attributes}))
    await end.wait_for_items(len(cases))
    await processor.shutdown()
    found = {}
    for batch in end.batches:
        for resource in batch.data.resource_logs:
            attributes = dict(otlp.attributes(resource.resource.attributes))
            found[str(attributes.pop(CASE))] = attributes
    return found


def _config(block: str) -> Any:
    """The options as the agent reads them from a file."""
    text = (
        "receivers: {oom: }\nexporters: {debug: }\n"
        f"processors:\n  k8s_attributes:\n{textwrap.indent(block, '    ')}\n"
        "service: {pipelines: {logs: {receivers: [oom], processors: [k8s_attributes], "
        "exporters: [debug]}}}\n"
    )
    loaded = configs.load([f"yaml:{text}"])
    [configured] = loaded.components(Kind.PROCESSOR).values()
    return configured.config


def _message(name: str, attributes: Mapping[str, str]) -> dict[str, Any]:
    pairs = [
        {"key": key, "value": {"stringValue": value}}
        for key, value in {CASE: name, **attributes}.items()
    ]
    records = [{"body": {"stringValue": "a"}}]
    return {"resource": {"attributes": pairs}, "scopeLogs": [{"logRecords": records}]}


def _value(value: dict[str, Any]) -> Any:
    """A value of OTLP/JSON as Python has it."""
    [(kind, content)] = value.items()
    if kind == "intValue":
        return int(content)
    if kind == "arrayValue":
        return [_value(one) for one in content.get("values", [])]
    return content
