"""The installed command as a process: `otel-oom run` with a config, from its start to its stop.

    with agent_process.running(config, tmp_path) as agent:
        ...
        stopped = agent.stop()
    assert stopped.status == 0 and stopped.sums["logs"]["held"] == 0

It is stopped at the end of the block if the block did not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import itertools
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

PATIENCE_S = 30.0
"""How long the agent may take to start or to stop before a test calls it stuck."""

_SUM = re.compile(
    r"^(?P<signal>logs|traces|metrics): produced (?P<produced>\d+) \+ "
    r"(?:recovered (?P<recovered>\d+) \+ )?copied (?P<copied>\d+) = "
    r"delivered (?P<delivered>\d+) \+ rejected (?P<rejected>\d+) \+ dropped (?P<dropped>\d+)"
    r"(?: \([^)]*\))? \+ held (?P<held>\d+): (?P<verdict>.*)$",
    re.MULTILINE,
)
_IDENTITIES = re.compile(
    r"victims (?P<reported>\d+) \+ lost in the ring (?P<lost>\d+) = marks (?P<marks>\d+) "
    r"- repeated (?P<repeats>\d+); kernel's kills (?P<kernel>\d+) in "
    r"\[(?P<least>\d+), (?P<most>\d+)\]"
)
_numbers = itertools.count()


@dataclasses.dataclass(frozen=True)
class Stopped:
    """How a run ended: its exit status and what it said."""

    status: int
    stdout: str
    stderr: str

    @property
    def sums(self) -> dict[str, dict[str, int]]:
        """The closing accounting by signal; a sum that does not close raises AssertionError."""
        found = {}
        for match in _SUM.finditer(self.stderr):
            numbers = match.groupdict()
            name, verdict = numbers.pop("signal"), numbers.pop("verdict")
            assert verdict == "closed", match[0]
            found[name] = {key: int(value or 0) for key, value in numbers.items()}
        assert found, self.stderr
        return found

    @property
    def identities(self) -> dict[str, int]:
        """The terms by which the receiver's count is held against the kernel's."""
        match = _IDENTITIES.search(self.stderr)
        assert match, self.stderr
        return {key: int(value) for key, value in match.groupdict().items()}

    def every_mark_is_reported(self) -> bool:
        """Whether each victim that the kernel marked was reported, or is known to be lost.

        The kernel may have counted more: kills of others just before the probes were attached,
        or after they were detached.
        """
        of = self.identities
        own = of["reported"] + of["lost"] == of["marks"] - of["repeats"]
        return own and of["least"] <= of["kernel"]

    def identities_hold(self) -> bool:
        """Whether, beyond that, the kernel counted no kill that was not marked."""
        of = self.identities
        return self.every_mark_is_reported() and of["kernel"] <= of["most"]


class AgentProcess:
    """A started agent. Its output goes to files, so that it never waits for its reader."""

    def __init__(
        self,
        config: str,
        folder: pathlib.Path,
        environment: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        """Start it; `within` is a command that runs it, as `unshare --mount` does."""
        stem = folder / f"agent-{next(_numbers)}"
        self._stdout, self._stderr = stem.with_suffix(".out"), stem.with_suffix(".err")
        path = stem.with_suffix(".yaml")
        path.write_text(config)
        with self._stdout.open("wb") as out, self._stderr.open("wb") as err:
            self.process = subprocess.Popen(
                [*within, sys.executable, "-P", "-m", "otel_oom", "run", "--config", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**_neutral_environment(), **(environment or {})},
                cwd=folder,
            )

    def log(self) -> str:
        """What it has said on stderr so far."""
        return self._stderr.read_text()

    def wait_until_running(self) -> None:
        """Return once it says so; raise with its output if it ends instead."""
        self.wait_for_line("running;")

    def wait_for_line(self, part: str) -> None:
        """Return once its log has this; raise with its log if it ends or takes for ever."""
        deadline = time.monotonic() + PATIENCE_S
        while part not in self.log():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"no {part!r} (status {self.process.poll()}):\n{self.log()}")
            time.sleep(0.01)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> Stopped:
        """Send the signal and wait for the end."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> Stopped:
        """Wait until it ends by itself."""
        status = self.process.wait(PATIENCE_S)
        return Stopped(status, self._stdout.read_text(), self.log())

    def close(self) -> None:
        """Let nothing of it be left."""
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_S)
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def started(config: str, folder: pathlib.Path, **options: Any) -> Iterator[AgentProcess]:
    """An agent that has just been started, running or not; `environment` adds variables.

    `within` is a command that runs it.
    """
    agent = AgentProcess(config, folder, **options)
    try:
        yield agent
    finally:
        agent.close()


@contextlib.contextmanager
def running(config: str, folder: pathlib.Path, **options: Any) -> Iterator[AgentProcess]:
    """An agent that captures and whose pipelines run."""
    with started(config, folder, **options) as agent:
        agent.wait_until_running()
        yield agent


def config(folder: pathlib.Path, exporters: dict[str, Any], **parts: Any) -> str:
    """A configuration with every signal to every exporter, its books in `folder`.

    `parts` are `processors` (default: `resource`), `extensions`, `telemetry`, and the options of
    the receiver as `oom`. YAML is a superset of JSON.
    """
    processors = parts.get("processors", {"resource": None})
    pipeline = {
        "receivers": ["oom"],
        "processors": list(processors),
        "exporters": list(exporters),
    }
    oom = {"state_directory": str(folder / "state"), **parts.get("oom", {})}
    service = {
        "pipelines": dict.fromkeys(("logs", "traces", "metrics"), pipeline),
        "extensions": list(parts.get("extensions", {})),
        "telemetry": parts.get("telemetry", {}),
    }
    return json.dumps(
        {
            "receivers": {"oom": oom},
            "processors": processors,
            "exporters": exporters,
            "extensions": parts.get("extensions", {}),
            "service": service,
        }
    )


def plain_grpc(endpoint: str, **options: Any) -> dict[str, Any]:
    """The exporter that sends there without TLS."""
    return {"otlp_grpc": {"endpoint": endpoint, "tls": {"insecure": True}, **options}}


def health(port: int) -> int | None:
    """The status of the health answer, None where nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        except OSError:
            return None


def _neutral_environment() -> dict[str, str]:
    """Ours, without what would tell the agent where to send."""
    return {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
