"""The agent as a process: signals, reload, failures, and the accounting at every end."""

import contextlib
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
import yaml
from doubles import ticker

CLOSED = "logs: produced {0} + copied 0 = delivered {0} + rejected 0 + dropped 0 + held 0: closed"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return ticker.install(tmp_path_factory.mktemp("distribution"))


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Agent:
    """A running `otel-oom run`, its stdout a pipe and its log a file."""

    def __init__(self, environment, folder, config, *arguments):
        self.config_path = pathlib.Path(folder) / "config.yaml"
        self.log_path = pathlib.Path(folder) / "stderr"
        self.write(config)
        command = [sys.executable, "-m", "otel_oom", "run", "--config", str(self.config_path)]
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *arguments], env=environment, stdout=subprocess.PIPE, stderr=log
            )

    def write(self, config):
        self.config_path.write_text(yaml.safe_dump(config))

    @property
    def log(self):
        return self.log_path.read_text()

    def wait_for(self, text, count=1):
        """Return once the log has a text that often."""
        end = time.monotonic() + 30
        while self.log.count(text) < count:
            assert time.monotonic() < end, f"no {text!r} in:\n{self.log}"
            time.sleep(0.01)

    def stop(self, number=signal.SIGTERM):
        """Send a signal; returns (exit status, stdout)."""
        self.process.send_signal(number)
        return self.end()

    def end(self):
        out, _ = self.process.communicate(timeout=30)
        return self.process.returncode, out.decode()


@pytest.fixture
def start(environment, tmp_path):
    agents = []

    def run(config, *arguments):
        agents.append(Agent(environment, tmp_path, config, *arguments))
        return agents[-1]

    yield run
    for agent in agents:
        with contextlib.suppress(ProcessLookupError):
            agent.process.kill()
        agent.process.communicate()


def config(port=None, processors=(), **options):
    """A pipeline from the ticker to the terminal."""
    return {
        "receivers": {"ticker": options},
        "processors": dict.fromkeys(processors),
        "exporters": {"debug": {"verbosity": "normal"}},
        "extensions": {"health_check": {"endpoint": f"127.0.0.1:{port}"}} if port else {},
        "service": {
            "extensions": ["health_check"] if port else [],
            "pipelines": {
                "logs": {
                    "receivers": ["ticker"],
                    "processors": list(processors),
                    "exporters": ["debug"],
                }
            },
        },
    }


def health(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly_and_everything_held_is_sent_and_counted(start, number):
    agent = start(config(processors=["resource", "batch"]), "--set", "processors.batch.timeout=1h")
    agent.wait_for("running; stop with")
    status, out = agent.stop(number)

    assert status == 0
    assert re.findall("tick [0-9]", out) == ["tick 0", "tick 1", "tick 2"]
    assert CLOSED.format(3) in agent.log
    assert "receivers/ticker: made 3 items" in agent.log


def test_quiet_says_nothing_when_all_is_well(start, port):
    agent = start(config(port), "--quiet")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if health(port) == 200:
                break
        time.sleep(0.01)
    status, out = agent.stop()

    assert (status, agent.log) == (0, "")
    assert "tick 2" in out


def test_health_is_200_while_it_runs(start, port):
    agent = start(config(port))
    agent.wait_for("running; stop with")

    assert health(port) == 200
    assert agent.stop()[0] == 0


def test_a_component_that_cannot_start_ends_it_with_one_line_and_status_1(start):
    agent = start(config(start_error="the kernel has no clock; buy one"))
    status, _ = agent.end()

    assert status == 1
    assert "ERROR receivers/ticker: the kernel has no clock; buy one" in agent.log
    assert "Traceback" not in agent.log
    assert CLOSED.format(0) in agent.log


def test_a_port_in_use_names_the_key(start, port):
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        agent = start(config(port))
        status, _ = agent.end()

    assert status == 1
    assert "choose another address with the key `endpoint`" in agent.log


def test_a_fatal_failure_of_a_component_ends_it_with_status_1(start):
    agent = start(config(fatal=True))
    status, _ = agent.end()

    assert status == 1
    assert "receivers/ticker: StatusFatalError: the clock is broken" in agent.log
    assert CLOSED.format(3) in agent.log


def test_a_bad_config_ends_it_with_status_2_before_anything_starts(start):
    agent = start(config(itms=3))
    status, out = agent.end()

    assert (status, out) == (2, "")
    assert "did you mean `items`?" in agent.log


def test_a_reload_runs_the_new_config_and_keeps_the_count(start, port):
    agent = start(config(port))
    agent.wait_for("running; stop with")
    agent.write(config(port, prefix="new", items=2))
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_for("reload: running with the new configuration")
    assert health(port) == 200
    status, out = agent.stop()

    assert status == 0
    assert re.findall("new [0-9]", out) == ["new 0", "new 1"]
    assert CLOSED.format(5) in agent.log


def test_a_reload_with_a_bad_config_changes_nothing_and_says_why(start, port):
    agent = start(config(port))
    agent.wait_for("running; stop with")
    agent.write(config(port, itms=2))
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_for("reload: the running configuration is kept")
    assert health(port) == 200
    status, _ = agent.stop()

    assert status == 0
    assert "did you mean `items`?" in agent.log
    assert CLOSED.format(3) in agent.log


def test_a_reload_that_cannot_start_goes_back_to_the_old_config(start, port):
    agent = start(config(port))
    agent.wait_for("running; stop with")
    agent.write(config(port, start_error="no clock"))
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_for("reload: back to the old configuration, because receivers/ticker: no clock")
    agent.wait_for("receivers/ticker: StatusOK", count=2)
    status, _ = agent.stop()

    assert status == 0
    assert CLOSED.format(6) in agent.log


def test_a_second_signal_ends_a_stop_that_waits_for_a_reader(start):
    agent = start(config(prefix="x" * 300_000), "--set", "service.shutdown_timeout=1h")
    agent.wait_for("running; stop with")
    agent.process.send_signal(signal.SIGTERM)
    agent.wait_for("SIGTERM: stopping")
    assert agent.process.poll() is None
    agent.process.send_signal(signal.SIGTERM)
    agent.wait_for("closed")  # our end of its stdout is still full
    status, _ = agent.end()

    assert status == 0
    assert "SIGTERM again: stopping at once" in agent.log
    assert re.search(
        r"dropped [1-3] \((output_slow [12], )?shutdown [1-3]\) \+ held 0: closed", agent.log
    )


def test_a_closed_stdout_is_counted_and_the_agent_goes_on(start, port):
    agent = start(config(port, items=0))
    agent.wait_for("running; stop with")
    agent.process.stdout.close()
    agent.process.stdout = open(os.devnull, "rb")  # noqa: PTH123, SIM115
    agent.write(config(port))
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_for("stdout is closed")
    status, _ = agent.stop()

    assert status == 0
    assert "dropped 3 (output_closed 3) + held 0: closed" in agent.log
    assert "Traceback" not in agent.log


def test_the_running_agent_has_not_loaded_what_reads_a_config(start, port):
    agent = start(config(port))
    agent.wait_for("running; stop with")
    agent.process.send_signal(signal.SIGHUP)
    agent.wait_for("reload: running with the new configuration")
    maps = pathlib.Path(f"/proc/{agent.process.pid}/maps").read_text()

    assert "google/_upb" in maps
    assert "yaml/_yaml" not in maps
    assert agent.stop()[0] == 0


@pytest.fixture
def waiting(start, tmp_path):
    """An agent whose config is a FIFO that nobody writes, and the process that reads it."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    agent = start(config(), "--config", str(path))
    children = pathlib.Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children")
    # An opening for writing without waiting succeeds once somebody reads.
    end = time.monotonic() + 30
    while True:
        with contextlib.suppress(OSError):
            writer = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            break
        assert time.monotonic() < end, agent.log
        time.sleep(0.01)
    yield agent, int(children.read_text())
    os.close(writer)


@pytest.mark.parametrize(
    ("number", "status", "said"),
    [(signal.SIGINT, 1, "\nAborted!\n"), (signal.SIGTERM, -signal.SIGTERM, "")],
)
def test_a_signal_while_the_config_is_read_ends_both_processes(waiting, number, status, said):
    agent, child = waiting

    assert agent.stop(number) == (status, "")
    assert agent.log == said
    end = time.monotonic() + 30
    while pathlib.Path(f"/proc/{child}/cmdline").exists() and _state(child) != "Z":
        assert time.monotonic() < end, "the reader lives"
        time.sleep(0.01)


def _state(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def test_a_config_from_a_descriptor_of_the_caller_is_read(environment, tmp_path):
    read, write = os.pipe()
    os.write(write, yaml.safe_dump(config(itms=3)).encode())
    os.close(write)
    done = subprocess.run(
        [sys.executable, "-m", "otel_oom", "run", "--config", f"/dev/fd/{read}"],
        env=environment,
        pass_fds=[read],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    os.close(read)

    assert done.returncode == 2
    assert "did you mean `items`?" in done.stderr


def test_a_reload_whose_reader_is_killed_changes_nothing(start, port, tmp_path):
    agent = start(config(port))
    agent.wait_for("running; stop with")
    agent.config_path.unlink()
    os.mkfifo(agent.config_path)
    agent.process.send_signal(signal.SIGHUP)
    tasks = pathlib.Path(f"/proc/{agent.process.pid}/task")
    end = time.monotonic() + 30
    while not (children := " ".join(f.read_text() for f in tasks.glob("*/children")).split()):
        assert time.monotonic() < end, agent.log
        time.sleep(0.01)
    assert health(port) == 200  # the event loop does not wait for it
    os.kill(int(children[0]), signal.SIGKILL)
    agent.wait_for("reload: the running configuration is kept, because of")

    assert "ended with status -9" in agent.log
    assert agent.stop()[0] == 0
