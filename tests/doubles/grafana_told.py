"""One run of the agent with the example for Grafana: a real kill, a real slow fsync, and what was told.

The configuration is the shipped one. Only what belongs to this machine is another: where the agent keeps its
books and its queue, and a file beside the backends, in which a test finds what the agent sent.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
import re
import time
from typing import Any

import yaml
from doubles import (
    agent_process,
    block_device,
    collected,
    memory_cgroup,
    operations,
    real_collector,
    sleeper,
    slow_fuse,
)

from otel_oom.pipeline import otlp

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "grafana-tempo-loki.yaml"
TENANT, OTHER_TENANT = "team-a", "team-b"
_MIB = 1 << 20
_SLOW_S = 0.1


@dataclasses.dataclass(frozen=True)
class _File:
    """The file exporter's file, read as the collector's is."""

    output: pathlib.Path

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines()]


@dataclasses.dataclass(frozen=True)
class Told:
    """What happened, and what the agent sent of it."""

    kill: sleeper.Kill
    syncer: int
    """Process whose fsync was slow."""
    logs: list[collected.Found]
    spans: list[collected.Found]
    stopped: agent_process.Stopped
    began_ns: int
    ended_ns: int

    def of_the_kill(self, found: list[collected.Found]) -> collected.Found:
        """The log record or the span of the kill."""
        (one,) = (
            one
            for one in found
            if one.attributes.get("process.pid") == self.kill.victim
            and one.attributes.get("oom.constraint")
        )
        return one

    def of_a_sync(self, found: list[collected.Found]) -> collected.Found:
        """The log record or the span of the first slow fsync."""
        return next(
            one
            for one in found
            if one.attributes.get("process.pid") == self.syncer
            and one.attributes.get("storage.operation") == "fsync"
        )


def run(folder: pathlib.Path, tempo: str, loki: str) -> Told:
    """Run it against the two endpoints, until all is delivered."""
    began_ns = time.time_ns()
    environment = {"TEMPO_ENDPOINT": tempo, "LOKI_ENDPOINT": loki, "GRAFANA_TENANT": TENANT}
    with contextlib.ExitStack() as stack:
        slow = stack.enter_context(slow_fuse.file(64 * _MIB, depth=64))
        device = stack.enter_context(block_device.loop(slow.path, direct_io=True))
        block_device.make_filesystem(device, "ext4")
        (folder / "disk").mkdir()
        stack.enter_context(block_device.mounted(device, folder / "disk"))
        group = stack.enter_context(memory_cgroup.temporary(sleeper.LIMIT_BYTES))
        agent = agent_process.running(_config(folder), folder, environment=environment)
        process = stack.enter_context(agent)
        kill = sleeper.kill(group)
        slow.delay(write_s=_SLOW_S)
        with operations.started("fsync", folder / "disk" / "file", count=1) as task:
            task.finish()
        stopped = process.stop()
    file = _File(folder / "told.jsonl")
    return Told(
        kill, task.tid, collected.logs(file), collected.spans(file), stopped, began_ns, time.time_ns()
    )  # fmt: skip


def _config(folder: pathlib.Path) -> str:
    config = yaml.safe_load(CONFIG.read_text())
    [port] = real_collector.free_ports(1)
    config["receivers"]["oom"] = {"state_directory": str(folder / "state")}
    config["extensions"]["file_storage"]["directory"] = str(folder / "queue")
    config["extensions"]["health_check"] = {"endpoint": f"127.0.0.1:{port}"}
    config["exporters"]["file"] = {"path": str(folder / "told.jsonl")}
    for pipeline in config["service"]["pipelines"].values():
        pipeline["exporters"].append("file")
    return yaml.safe_dump(config)


def flat(attributes: dict[str, otlp.Value], prefix: str = "") -> dict[str, otlp.Value]:
    """Attributes by Loki's names: `_` for what is no letter and no digit, maps unfolded."""
    found: dict[str, otlp.Value] = {}
    for key, value in attributes.items():
        name = prefix + "".join(letter if letter.isalnum() else "_" for letter in key)
        found |= flat(value, f"{name}_") if isinstance(value, dict) else {name: value}
    return found


def is_text_of(text: str | None, value: otlp.Value) -> bool:
    """Whether Loki's text says this value: text as it is, all else as JSON."""
    if text is None or isinstance(value, str):
        return text == value
    return bool(json.loads(text) == value)


def queries(language: str) -> list[str]:
    """The queries of docs/grafana.md that are written in `logql` or `traceql`, as a user copies them."""
    text = (CONFIG.parents[1] / "docs" / "grafana.md").read_text()
    return [query.strip() for query in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)]
