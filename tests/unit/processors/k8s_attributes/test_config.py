"""Options: a collector's block is taken as it is, and what cannot work is told with its place."""

from __future__ import annotations

import pathlib

import pytest

from otel_oom import errors
from otel_oom.service import config as configs

# What a collector's users write, of every option at least once.
COLLECTORS = """
  k8s_attributes:
    auth_type: kubeConfig
    context: staging
    kube_api_qps: 20
    kube_api_burst: 40
    passthrough: false
    wait_for_metadata: true
    wait_for_metadata_timeout: 30s
    watch_sync_period: 0s
    pod_delete_grace_period: 30s
    filter:
      node_from_env_var: K8S_NODE_NAME
      namespace: shop
      labels:
        - {key: app, op: exists}
        - {key: tier, value: db, op: not-equals}
        - {key: team, value: blue}
      fields:
        - {key: status.phase, value: Failed, op: not-equals}
    extract:
      metadata: [k8s.pod.name, k8s.pod.uid, k8s.deployment.name, container.image.tags, service.name]
      otel_annotations: true
      deployment_name_from_replicaset: true
      labels:
        - {tag_name: team, key: team, from: namespace}
        - {tag_name: $$1, key_regex: app\\.kubernetes\\.io/(.*), from: pod}
      annotations:
        - {key_regex: "opentel.*"}
    pod_association:
      - sources:
          - {from: resource_attribute, name: k8s.pod.name}
          - {from: resource_attribute, name: k8s.namespace.name}
      - sources:
          - from: connection
    exclude:
      pods:
        - {name: "^proxy-"}
  k8sattributes/old:
  k8sattributes/through:
    passthrough: true
"""
REST = """
receivers:
  oom:
exporters:
  debug:
service:
  pipelines:
    logs: {receivers: [oom], processors: [%s], exporters: [debug]}
"""


def loaded(tmp_path: pathlib.Path, processors: str, used: str):
    path = tmp_path / "config.yaml"
    path.write_text(f"processors:{processors}{REST % used}")
    return configs.load([str(path)], (), {})


def test_a_block_of_a_collector_is_taken(tmp_path):
    used = "k8s_attributes, k8sattributes/old, k8sattributes/through"
    found = loaded(tmp_path, COLLECTORS, used)
    by_id = {str(id_): config for id_, (_, config) in found.processors.items()}
    config = by_id["k8s_attributes"]
    assert config.auth_type == "kubeConfig"
    assert config.filter.node_from_env_var == "K8S_NODE_NAME"
    assert [rule.tag_name for rule in config.extract.labels] == ["team", "$1"]
    assert config.extract.labels[0].from_ == "namespace"
    assert config.pod_association[1].sources[0].from_ == "connection"
    assert by_id["k8sattributes/old"].wait_for_metadata_timeout == 10
    assert by_id["k8sattributes/old"].auth_type == "serviceAccount"
    assert [pod.name for pod in by_id["k8sattributes/old"].exclude.pods] == [
        "jaeger-agent",
        "jaeger-collector",
    ]


@pytest.mark.parametrize(
    ("options", "place", "words"),
    [
        ("auth_type: tls", "auth_type", "must be one of none, serviceAccount, kubeConfig"),
        ("auth_type: serviceacount", "auth_type", "did you mean `serviceAccount`?"),
        ("extract: {metadata: [k8s.pod.nam]}", "extract.metadata[0]", "`k8s.pod.name`"),
        ("extract: {labels: [{key: a, key_regex: b}]}", "extract.labels[0].key_regex", "exclude"),
        ("extract: {labels: [{tag_name: a}]}", "extract.labels[0]", "is required"),
        (
            "extract: {labels: [{key: a, from: pots}]}",
            "extract.labels[0].from",
            "one of pod, namespace",
        ),
        ("extract: {labels: [{key: a, fro: pod}]}", "extract.labels[0].fro", "`from`"),
        (
            "extract: {annotations: [{key_regex: '['}]}",
            "extract.annotations[0].key_regex",
            "no regular expression",
        ),
        ("filter: {fields: [{key: a, op: exists}]}", "filter.fields[0].op", "equals"),
        ("filter: {labels: [{key: a, op: in}]}", "filter.labels[0].op", "does-not-exist"),
        ("filter: {labels: [{op: exists}]}", "filter.labels[0].key", "is required"),
        ("late_timeout: -1s", "late_timeout", "negative"),
        ("late_items: -1", "late_items", "negative"),
        ("pod_delete_grace_period: -1s", "pod_delete_grace_period", "negative"),
        ("exclude: {pods: [{name: '('}]}", "exclude.pods[0].name", "no regular expression"),
        (
            "pod_association: [{sources: [{from: resource_attribute}]}]",
            "pod_association[0].sources[0].name",
            "needs one",
        ),
        (
            "pod_association: [{sources: [{name: a}, {name: b}, {name: c}, {name: d}, {name: e}]}]",
            "pod_association[0].sources",
            "at most 4",
        ),
        (
            "pod_association: [{sources: [{name: a}, {name: b}]}, {sources: [{name: b}, {name: a}]}]",
            "pod_association[1]",
            "stands above",
        ),
        ("{source: kubelet, auth_type: kubeConfig}", "auth_type", "serviceAccount"),
        (
            "{source: kubelet, extract: {metadata: [k8s.node.uid]}}",
            "extract.metadata[0]",
            "source: api_server",
        ),
        (
            "{source: kubelet, extract: {labels: [{key: a, from: node}]}}",
            "extract.labels[0].from",
            "source: api_server",
        ),
        ("kubelet: {endpoint: 'node:10250'}", "kubelet.endpoint", "https://"),
        ("kubelet: {poll_interval: 0s}", "kubelet.poll_interval", "greater than zero"),
    ],
)
def test_what_cannot_work_is_told_with_its_place(tmp_path, options, place, words):
    block = options if options.startswith("{") else f"{{{options}}}"
    with pytest.raises(errors.ConfigError) as told:
        loaded(tmp_path, f"\n  k8s_attributes: {block}\n", "k8s_attributes")
    assert f"processors.k8s_attributes.{place}: " in str(told.value)
    assert words in str(told.value)
    assert "config.yaml:" in str(told.value)
