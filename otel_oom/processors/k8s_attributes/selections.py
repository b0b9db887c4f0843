"""What has to be asked for, so that the options can be had, and no more than that."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping

from otel_oom import errors
from otel_oom.kubernetes.source import Kind
from otel_oom.kubernetes.targets import Selection
from otel_oom.processors.k8s_attributes import rules
from otel_oom.processors.k8s_attributes.config import Config, Filter
from otel_oom.processors.k8s_attributes.pods import CONFIG_HASH, IGNORE

_FIELD_SPECIAL = re.compile(r"([\\,=])")
_SYSTEM_NAMESPACE = "kube-system"
_NEEDS: dict[Kind, tuple[frozenset[str], frozenset[str]]] = {
    Kind.NAMESPACE: (frozenset({"k8s.cluster.uid"}), frozenset({"namespace"})),
    Kind.NODE: (frozenset({"k8s.node.uid"}), frozenset({"node"})),
    Kind.REPLICA_SET: (frozenset({"k8s.deployment.uid"}), frozenset({"replicaset", "deployment"})),
    Kind.DEPLOYMENT: (frozenset(), frozenset({"deployment"})),
    Kind.STATEFUL_SET: (frozenset(), frozenset({"statefulset"})),
    Kind.DAEMON_SET: (frozenset(), frozenset({"daemonset"})),
    Kind.JOB: (frozenset({"k8s.cronjob.uid"}), frozenset({"job", "cronjob"})),
    Kind.CRON_JOB: (frozenset(), frozenset({"cronjob"})),
}
"""Beside pods: by which metadata and by whose labels or annotations a kind is needed."""


def node_name(chosen: Filter, environment: Mapping[str, str] = os.environ) -> str:
    """The node whose pods are asked for; empty for all of them."""
    variable = chosen.node_from_env_var
    if not variable:
        return chosen.node
    name = environment.get(variable, "")
    if not name:
        raise errors.ComponentError(
            f"`filter.node_from_env_var`: the environment variable {variable} is not set; in the "
            "DaemonSet take it from the field `spec.nodeName`, or name the node in `filter.node`"
        )
    return name


def kinds(config: Config, environment: Mapping[str, str] = os.environ) -> dict[Kind, Selection]:
    """Every kind that is needed, and which objects of it."""
    chosen, metadata = config.filter, set(config.extract.metadata)
    node = node_name(chosen, environment)
    sources = {field.from_ for field in (*config.extract.labels, *config.extract.annotations)}
    found = {Kind.POD: _pods(chosen, node)}
    for kind, (by_metadata, by_source) in _NEEDS.items():
        if by_metadata & metadata or by_source & sources:
            found[kind] = Selection(namespace=chosen.namespace)
    if Kind.NODE in found and node:
        found[Kind.NODE] = Selection(fields=_field("metadata.name", "=", node))
    if Kind.NAMESPACE in found and "namespace" not in sources:
        found[Kind.NAMESPACE] = Selection(fields=_field("metadata.name", "=", _SYSTEM_NAMESPACE))
    return found


def _pods(chosen: Filter, node: str) -> Selection:
    fields = [_field("spec.nodeName", "=", node)] if node else []
    operators = {"equals": "=", "not-equals": "!="}
    fields += [_field(each.key, operators[each.op], each.value) for each in chosen.fields]
    labels = []
    for label in chosen.labels:
        match label.op:
            case "exists":
                labels.append(label.key)
            case "does-not-exist":
                labels.append(f"!{label.key}")
            case _:
                labels.append(f"{label.key}{operators[label.op]}{label.value}")
    return Selection(namespace=chosen.namespace, fields=",".join(fields), labels=",".join(labels))


def _field(key: str, operator: str, value: str) -> str:
    return key + operator + _FIELD_SPECIAL.sub(r"\\\1", value)


def needed_annotations(config: Config) -> Callable[[str], bool]:
    """Which annotations are needed at all: the others may be dropped when they are read."""
    names = {CONFIG_HASH, IGNORE, *(each.key for each in config.extract.annotations)}
    expressions = [
        rules.compiled(each.key_regex) for each in config.extract.annotations if each.key_regex
    ]
    prefix = rules.OTEL_PREFIX if config.extract.otel_annotations else None

    def is_needed(key: str) -> bool:
        return (
            key in names
            or (prefix is not None and key.startswith(prefix))
            or any(expression.fullmatch(key) for expression in expressions)
        )

    return is_needed
