"""The container image as it will run: not root, no more rights than it needs, a real kill seen."""

from __future__ import annotations

import json
import pathlib
import re
import signal
import subprocess
import time

import pytest
import yaml
from doubles import container, containerd, memory_cgroup, pod_container

pytestmark = [pytest.mark.image, pytest.mark.root]

BASE = pathlib.Path(__file__).parents[2] / "configs" / "deploy" / "base"
TO_A_FILE = """
exporters: {file: {path: /var/lib/otel-oom/oom.jsonl, flush_interval: 100ms}}
service: {pipelines: {logs: {exporters: [file]}, traces: {exporters: [file]}, metrics: {exporters: [file]}}}
"""
"""Over the manifest's configuration: where there is neither a cluster nor a collector."""
AGENT_BIN = "/opt/otel-oom/bin"
CAPABILITIES = ("CAP_BPF", "CAP_PERFMON")
MIB = 1 << 20
PATIENCE_S = 60.0


@pytest.fixture(scope="session")
def image() -> str:
    return container.build()


def _kill() -> int:
    """Kill a process with OOM outside the container; its pid."""
    with memory_cgroup.temporary(32 * MIB) as group:
        hog = group.hog("comm=image-victim", "eat=64M")
        assert hog.wait() == -signal.SIGKILL
        return hog.pid


def _reported_pids(output: pathlib.Path) -> set[int]:
    """The victims in the OTLP JSON file that the agent appends to."""
    whole, _, _ = (output.read_text() if output.exists() else "").rpartition("\n")
    return {
        int(attribute["value"]["intValue"])
        for line in whole.splitlines()
        for resource in json.loads(line).get("resourceLogs", [])
        for scope in resource["scopeLogs"]
        for record in scope["logRecords"]
        for attribute in record["attributes"]
        if attribute["key"] == "process.pid"
    }


def _kill_until_reported(agent: container.Container) -> tuple[set[int], set[int]]:
    """Kill about once a second until a record comes; the first kills may precede the agent."""
    killed: set[int] = set()
    deadline = time.monotonic() + PATIENCE_S
    while not (reported := _reported_pids(agent.state / "oom.jsonl") & killed):
        if agent.process.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"no record of {killed}: {agent.process.communicate(timeout=5)}")
        killed.add(_kill())
        time.sleep(1)
    return reported, killed


def test_the_image_records_a_kill_as_nobody_with_two_capabilities(
    image: str, tmp_path: pathlib.Path
) -> None:
    with container.running(image, ["run"], CAPABILITIES, tmp_path) as agent:
        reported, _ = _kill_until_reported(agent)
        agent.process.terminate()
        printed, complained = agent.process.communicate(timeout=PATIENCE_S)

    assert agent.process.returncode == 0, complained
    for pid in reported:
        assert str(pid) in printed + complained


def test_the_image_records_a_kill_as_the_daemonset_runs_it(
    image: str, tmp_path: pathlib.Path
) -> None:
    """With the manifest's rights, mounts and configuration; its probe says that it is healthy."""
    pod = yaml.safe_load((BASE / "daemonset.yaml").read_text())["spec"]["template"]["spec"]
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "agent.yaml").write_bytes((BASE / "agent.yaml").read_bytes())
    (tmp_path / "config" / "over.yaml").write_text(TO_A_FILE)
    over = ("--config", "/etc/otel-oom/over.yaml")
    with pod_container.running(image, pod, tmp_path, *over) as agent:
        reported, _ = _kill_until_reported(agent)
        probe = pod_container.execute(
            tmp_path, pod["containers"][0]["livenessProbe"]["exec"]["command"]
        )
        agent.process.terminate()
        printed, complained = agent.process.communicate(timeout=PATIENCE_S)

    assert reported
    assert (probe.returncode, probe.stderr) == (0, "")
    assert agent.process.returncode == 0, printed + complained
    assert "receivers/oom: StatusOK: mode core" in complained


@pytest.mark.containerd
def test_its_programs_load_under_the_default_seccomp_profile(image: str) -> None:
    """That of a real containerd, which is what `RuntimeDefault` means; as root of two rights."""
    usual = "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP"
    usual += " NET_BIND_SERVICE SYS_CHROOT KILL AUDIT_WRITE"
    rights = [part for name in usual.split() for part in ("--cap-drop", f"CAP_{name}")]
    rights += [part for name in CAPABILITIES for part in ("--cap-add", name)]
    host = [
        part
        for path in ("/proc", "/sys")
        for part in ("--mount", f"type=bind,src={path},dst=/host{path},options=rbind:ro")
    ]
    with containerd.running() as runtime, container.root_of(image) as (root, _):
        run = ("run", "--rm", "--seccomp", *rights, *host, "--rootfs", str(root), "seccomp")
        said = runtime.ask(
            *run,
            f"{AGENT_BIN}/otel-oom",
            "doctor",
            "--set",
            "receivers.oom.root_path=/host",
            "--set",
            "receivers.storage.root_path=/host",
        )

    assert re.search(r"^ok +rights +uid 0, CapEff 0xc000000000$", said, re.MULTILINE), said
    assert re.search(r"^ok +probes .*verified instructions$", said, re.MULTILINE), said


def test_the_image_has_no_compiler_and_no_pip(image: str) -> None:
    with container.root_of(image) as (root, _):
        found = subprocess.run(
            ["find", root, "-type", "f", "-regex", r".*/bin/\(clang\|gcc\|cc\|pip\).*"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert found == ""


def test_the_image_says_which_capabilities_it_needs(image: str) -> None:
    with container.root_of(image) as (_, config):
        assert config["Labels"]["io.otel-oom.capabilities.required"].split() == list(CAPABILITIES)
