"""`otel-oom top` beside a running agent, with real requests of a loop device."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import pty
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from doubles import agent_process, block_device, fio, loop_device

pytestmark = pytest.mark.root

MIB = 1 << 20
PATIENCE_S = 60.0
TOP = [sys.executable, "-P", "-m", "otel_oom", "top"]


class Agent(NamedTuple):
    """A running one, and a device that nobody else uses."""

    endpoint: str
    device: block_device.Device
    folder: pathlib.Path


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    if shutil.which("fio") is None:
        pytest.skip("needs fio: apt-get install fio")
    folder = tmp_path_factory.mktemp("top")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    with contextlib.ExitStack() as stack:
        backing = stack.enter_context(block_device.sparse_file(256 * MIB))
        device = stack.enter_context(block_device.loop(backing))
        block_device.make_filesystem(device, "ext4")
        mount = folder / "mount"
        mount.mkdir()
        stack.enter_context(block_device.mounted(device, mount))
        stack.enter_context(agent_process.running(config(folder, endpoint, device.name), folder))
        yield Agent(endpoint, device, mount)


def config(folder: pathlib.Path, endpoint: str, device: str) -> str:
    """Others' cgroups and devices take neither its series nor its place among the slowest."""
    pipeline = {"receivers": ["oom", "storage"], "exporters": ["file"]}
    storage: dict[str, Any] = {"thresholds": {"stage": "1ms", "total": "1ms"}, "devices": [device]}
    storage |= {"include_stacked": True, "max_series": 8192}
    return json.dumps(
        {
            "receivers": {"oom": {"state_directory": str(folder / "state")}, "storage": storage},
            "exporters": {"file": {"path": str(folder / "out.jsonl")}},
            "extensions": {"health_check": {"endpoint": endpoint}},
            "service": {"extensions": ["health_check"], "pipelines": {"logs": pipeline}},
        }
    )


@contextlib.contextmanager
def syncing(agent: Agent) -> Iterator[None]:
    """Somebody who writes and syncs until the end of the block."""
    command = ["fio", "--name=load", f"--directory={agent.folder}", "--size=8m", "--bs=4k"]
    command += ["--rw=randwrite", "--fsync=1", "--runtime=300", "--time_based"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        running.send_signal(signal.SIGINT)
        running.wait(PATIENCE_S)


def view(agent: Agent) -> dict[str, Any]:
    with contextlib.closing(http.client.HTTPConnection(agent.endpoint, timeout=30)) as connection:
        connection.request("GET", "/views")
        found: dict[str, Any] = json.loads(connection.getresponse().read())["views"]["storage"]
        return found


def counted(agent: Agent) -> tuple[int, int]:
    """Reads of the device and their bytes, as the view has them."""
    time.sleep(0.3)  # who asks sooner is told the same again
    wanted = ("block", agent.device.name, "read")
    rows = [
        (row["requests"], row["bytes"])
        for row in view(agent)["rows"]
        if (row["tier"], row["device"], row["operation"]) == wanted
    ]
    return rows[0] if rows else (0, 0)


def kernels(agent: Agent) -> tuple[int, int]:
    """The same by the kernel's own counters; the filesystem reads beside fio."""
    stat = loop_device.Disk(agent.device.path).stat()
    return stat.reads, stat.read_sectors * 512


def test_the_view_counts_what_the_kernel_counts(agent: Agent) -> None:
    """Every read, and every byte."""
    fio.run(filename=agent.folder / "data", rw="write", size="8m", direct=1, fsync=1)
    before, kernel_before = counted(agent), kernels(agent)

    fio.run(filename=agent.folder / "data", rw="randread", size="8m", direct=1)

    kernel, after = kernels(agent), counted(agent)
    assert after[0] - before[0] == kernel[0] - kernel_before[0] >= 2048
    assert after[1] - before[1] == kernel[1] - kernel_before[1] >= 8 * MIB


def test_one_frame_has_the_device_its_calls_and_the_slowest(agent: Agent) -> None:
    with syncing(agent):
        done = subprocess.run(
            [*TOP, "--once", "--endpoint", agent.endpoint, "--interval", "2"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            env={**os.environ, "COLUMNS": "200"},
        )

    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].startswith("otel-oom ")
    assert lines[1].startswith("OOM kills in the last 1 h: ")
    rows = [line.split() for line in lines]
    name = agent.device.name
    for operation in ("write", "flush", "fsync"):
        assert any(row[:2] == [name, operation] and float(row[2]) > 0 for row in rows), done.stdout
    slow = [line for line in lines if "fio[" in line and f"on {name}" in line]
    assert any(" fsync " in line and str(agent.folder / "load.0.0") in line for line in slow)
    assert "\x1b" not in done.stdout


def test_it_draws_until_ctrl_c_and_leaves_the_terminal_as_it_was(agent: Agent) -> None:
    """In 24 lines of 80 characters."""
    with syncing(agent):
        status, screen = draw(agent, until=b"fio[", frames=3)

    assert status == 0
    assert screen.startswith(b"\x1b[?1049h")
    assert screen.rindex(b"\x1b[?1049l") > screen.rindex(b"\x1b[?1049h")
    assert screen.rindex(b"\x1b[?25h") > screen.rindex(b"\x1b[?25l")


def draw(agent: Agent, *, until: bytes, frames: int) -> tuple[int, bytes]:
    """Run it on a terminal until it has shown this, and so many frames; then press Ctrl-C."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm-256color"
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.execv(TOP[0], [*TOP, "--endpoint", agent.endpoint, "--interval", "0.5"])
    screen, deadline, is_stopping = b"", time.monotonic() + PATIENCE_S, False
    with contextlib.suppress(OSError):  # the end of a terminal whose process is gone
        while time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                screen += os.read(terminal, 65536)
            if not is_stopping and until in screen and screen.count(b"otel-oom ") >= frames:
                is_stopping = True
                os.write(terminal, b"\x03")
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), screen
