"""The examples for a vendor and for a durable sidecar, each against the real collector in that part."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from doubles import (
    agent_process,
    certificates,
    collected,
    memory_cgroup,
    real_collector,
    sleeper,
)

pytestmark = [pytest.mark.root, pytest.mark.go]

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
TOKEN = "a-secret-of-the-test"
# As a vendor does: HTTPS, and nobody without the token.
VENDOR = f"""
extensions: {{bearertokenauth: {{token: {TOKEN}}}}}
receivers: {{otlp: {{protocols: {{http: {{auth: {{authenticator: bearertokenauth}}}}}}}}}}
service: {{extensions: [health_check, bearertokenauth]}}
"""


@pytest.fixture(scope="module")
def delivery_binary() -> pathlib.Path:
    """The real collector with a check of tokens, built once and cached between runs."""
    try:
        return real_collector.build("delivery")
    except real_collector.BuildFailed as error:
        pytest.skip(f"needs the collector's Go modules, which did not come: {error}; check GOPROXY")


@pytest.fixture
def group() -> Iterator[memory_cgroup.MemoryCgroup]:
    with memory_cgroup.temporary(sleeper.LIMIT_BYTES) as made:
        yield made


def shipped(name: str, folder: pathlib.Path) -> dict[str, Any]:
    """A shipped example; only where it keeps its books and its queue is another, and its port."""
    config: dict[str, Any] = yaml.safe_load((CONFIGS / name).read_text())
    [port] = real_collector.free_ports(1)
    config["receivers"]["oom"] = {
        "state_directory": str(folder / "state"),
        "reconcile_interval": "1s",
    }
    config["extensions"]["file_storage"]["directory"] = str(folder / "queue")
    config["extensions"]["health_check"] = {"endpoint": f"127.0.0.1:{port}"}
    return config


@pytest.fixture
def vendor(
    delivery_binary: pathlib.Path, tmp_path: pathlib.Path
) -> Iterator[tuple[real_collector.Collector, certificates.Authority]]:
    """A collector that speaks HTTPS and asks for the token."""
    authority = certificates.Authority(tmp_path)
    pair = authority.issue("server")
    with real_collector.running(delivery_binary, tmp_path, pair=pair, more=VENDOR) as peer:
        yield peer, authority


Vendor = tuple[real_collector.Collector, certificates.Authority]


def test_a_vendor_gets_a_kill_over_tls_with_the_token(
    vendor: Vendor, group: memory_cgroup.MemoryCgroup, tmp_path: pathlib.Path
) -> None:
    peer, authority = vendor
    environment = {
        "VENDOR_ENDPOINT": peer.http_endpoint,
        "VENDOR_TOKEN": TOKEN,
        "VENDOR_CA_FILE": str(authority.root.cert),
    }
    text = yaml.safe_dump(shipped("vendor.yaml", tmp_path))
    with agent_process.running(text, tmp_path, environment=environment) as agent:
        kill = sleeper.kill(group)
        log, span = collected.the_log(peer, group), collected.the_span(peer, group)
        stopped = agent.stop()

    assert log.attributes["process.pid"] == kill.victim
    assert (log.item.trace_id, log.item.span_id) == (span.item.trace_id, span.item.span_id)
    assert stopped.status == 0, stopped.stderr
    assert stopped.sums["logs"]["delivered"] == stopped.sums["logs"]["produced"] > 0
    assert TOKEN not in stopped.stderr + stopped.stdout


def test_a_wrong_token_is_told_and_what_was_refused_is_kept(
    vendor: Vendor, group: memory_cgroup.MemoryCgroup, tmp_path: pathlib.Path
) -> None:
    """401 is for good; the log names it, and not the token."""
    peer, authority = vendor
    environment = {
        "VENDOR_ENDPOINT": peer.http_endpoint,
        "VENDOR_TOKEN": "another",
        "VENDOR_CA_FILE": str(authority.root.cert),
    }
    text = yaml.safe_dump(shipped("vendor.yaml", tmp_path))
    with agent_process.running(text, tmp_path, environment=environment) as agent:
        sleeper.kill(group)
        agent.wait_for_line("the server answered 401")
        stopped = agent.stop()

    assert collected.logs(peer) == []
    assert stopped.sums["logs"]["rejected"] == stopped.sums["logs"]["produced"] > 0
    assert "another" not in stopped.stderr.replace("in use by another", "")


def test_a_vendor_whose_root_is_not_trusted_gets_nothing(
    vendor: Vendor, group: memory_cgroup.MemoryCgroup, tmp_path: pathlib.Path
) -> None:
    """With the system's roots; what was not sent stays in the queue."""
    peer, _ = vendor
    environment = {"VENDOR_ENDPOINT": peer.http_endpoint, "VENDOR_TOKEN": TOKEN}
    text = yaml.safe_dump(shipped("vendor.yaml", tmp_path))
    with agent_process.running(text, tmp_path, environment=environment) as agent:
        sleeper.kill(group)
        agent.wait_for_line("the server's certificate is not accepted")
        stopped = agent.stop()

    assert collected.logs(peer) == []
    assert stopped.sums["logs"]["held"] == stopped.sums["logs"]["produced"] > 0


def test_a_sidecar_that_was_killed_delivers_once_its_collector_is_there(
    collector_binary: pathlib.Path, group: memory_cgroup.MemoryCgroup, tmp_path: pathlib.Path
) -> None:
    """The collector is away, the agent dies by SIGKILL; the next agent sends what that had accepted."""
    [port] = real_collector.free_ports(1)
    config = shipped("sidecar-durable.yaml", tmp_path)
    config["exporters"]["otlp_grpc"]["endpoint"] = f"http://127.0.0.1:{port}"
    text = yaml.safe_dump(config)
    with agent_process.running(text, tmp_path) as agent:
        kill = sleeper.kill(group)
        agent.wait_for_line("StatusRecoverableError")
        # What is on the disk is as good as told: the next agent must not tell it again.
        collected.until(lambda: is_noted(tmp_path / "state" / "oom.json", group), "the books")
        agent.process.kill()
        agent.process.wait()
    with (
        real_collector.running(collector_binary, tmp_path, grpc_port=port) as peer,
        agent_process.running(text, tmp_path) as agent,
    ):
        span = collected.the_span(peer, group)
        collected.until(lambda: of_group(peer, group), "the log record")
        stopped = agent.stop()
        [log] = of_group(peer, group)

    assert log.attributes["process.pid"] == kill.victim
    assert (log.item.trace_id, log.item.span_id) == (span.item.trace_id, span.item.span_id)
    assert stopped.sums["logs"]["recovered"] > 0


def of_group(
    peer: real_collector.Collector, group: memory_cgroup.MemoryCgroup
) -> list[collected.Found]:
    """The records of the cgroup, of whatever kind."""
    return collected.of_group(collected.logs(peer), group)


def is_noted(books: pathlib.Path, group: memory_cgroup.MemoryCgroup) -> bool:
    """Whether the agent has noted the cgroup's kill as told."""
    told = json.loads(books.read_text())["cgroups"] if books.exists() else {}
    return bool(told.get(str(group.inode)))
