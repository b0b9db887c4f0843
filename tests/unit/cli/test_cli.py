"""The command line as a user meets it: real processes, their output and their exit status."""

import json
import re
import socket
import subprocess
import sys
import threading

import pytest
import yaml
from doubles import ticker

import otel_oom

GOOD = """
receivers:
  ticker:
exporters:
  debug:
  otlp_http:
    endpoint: http://localhost:4318
    headers: {authorization: secret-token}
service:
  pipelines:
    logs: {receivers: [ticker], exporters: [debug, otlp_http]}
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return ticker.install(tmp_path_factory.mktemp("distribution"))


@pytest.fixture
def otel_oom_command(environment):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "otel_oom", *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def good(tmp_path):
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return str(path)


def test_version(otel_oom_command):
    done = otel_oom_command("--version")

    assert (done.stdout, done.returncode) == (f"otel-oom {otel_oom.__version__}\n", 0)


def test_help_names_every_command(otel_oom_command):
    done = otel_oom_command("--help")

    for command in ("run", "validate", "components", "print-config", "doctor"):
        assert re.search(rf"^  {command} ", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_needs_no_config_imports_nothing_heavy(environment, option):
    code = (
        "import sys\nfrom otel_oom import cli\n"
        f"try: cli.main(['{option}'])\nexcept SystemExit: pass\n"
        "print(sorted(set(sys.modules) & {'yaml', 'cattrs', 'google', 'grpc', 'asyncio',"
        " 'opentelemetry'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "[]"


def test_a_good_config_is_valid(otel_oom_command, good):
    done = otel_oom_command("validate", "--config", good)

    assert (done.returncode, done.stdout) == (0, "")
    assert "the configuration is valid" in done.stderr


def test_the_embedded_config_is_valid(otel_oom_command):
    assert otel_oom_command("validate").returncode == 0


@pytest.mark.parametrize("command", ["validate", "run", "print-config", "doctor"])
def test_every_problem_of_a_config_is_told_and_nothing_starts(otel_oom_command, tmp_path, command):
    path = tmp_path / "bad.yaml"
    path.write_text(
        GOOD.replace("debug:", "debug: {verbosty: normal}").replace("[ticker]", "[tick]")
    )
    done = otel_oom_command(command, "--config", str(path))

    assert (done.returncode, done.stdout) == (2, "")
    assert f"{path}:5:" in done.stderr
    assert "did you mean `verbosity`?" in done.stderr
    assert "tick" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("processors.batch.metadata_keys", "[tenant]"),
        ("processors.memory_limiter.limit_percentage", "500"),
        ("processors.resource.attributes", "[{key: k, action: extract}]"),
        ("exporters.debug.sampling_initial", "5"),
        ("extensions.health_check.endpoint", "nowhere"),
    ],
)
def test_options_of_the_components_are_checked(otel_oom_command, good, key, value):
    done = otel_oom_command("validate", "--config", good, "--set", f"{key}={value}")

    assert done.returncode == 2
    assert key in done.stderr


def test_an_unknown_option_is_a_usage_error(otel_oom_command):
    done = otel_oom_command("run", "--confg", "x")

    assert done.returncode == 2
    assert "--config" in done.stderr


def test_components_lists_types_stability_and_origin(otel_oom_command):
    done = otel_oom_command("components")
    listed = yaml.safe_load(done.stdout)

    assert done.returncode == 0
    assert listed["buildinfo"] == {"command": "otel-oom", "version": otel_oom.__version__}
    (batch,) = (one for one in listed["processors"] if one["name"] == "batch")
    assert set(batch["stability"]) == {"logs", "traces", "metrics"}
    (added,) = (one for one in listed["receivers"] if one["name"] == "ticker")
    assert added["distribution"] == "otel-oom-ticker 1.0"


def test_print_config_hides_secrets_unless_asked(otel_oom_command, good):
    shown = otel_oom_command("print-config", "--config", good)
    bare = otel_oom_command("print-config", "--config", good, "--unredacted")

    assert (shown.returncode, bare.returncode) == (0, 0)
    assert "secret-token" not in shown.stdout
    assert "[REDACTED]" in shown.stdout
    assert "secret-token" in bare.stdout
    assert yaml.safe_load(shown.stdout)["receivers"]["ticker"]["items"] == 3


def test_doctor_prints_each_check_with_its_remedy(otel_oom_command, good):
    done = otel_oom_command("doctor", "--config", good)

    assert done.returncode == 0
    assert re.search(r"^ok +clock +a clock$", done.stdout, re.MULTILINE)
    assert re.search(r"^absent +second hand +none$", done.stdout, re.MULTILINE)
    assert "buy a clock" not in done.stdout


def test_doctor_fails_when_something_required_is_missing(otel_oom_command, good):
    missing = ("--config", good, "--set", "receivers.ticker.missing=true")
    text, data = (
        otel_oom_command("doctor", *missing),
        otel_oom_command("doctor", "--json", *missing),
    )

    assert (text.returncode, data.returncode) == (1, 1)
    assert re.search(r"^MISSING +clock", text.stdout, re.MULTILINE)
    assert "remedy: buy a clock" in text.stdout
    (clock, _) = json.loads(data.stdout)
    assert clock == {
        "component": "receivers/ticker",
        "name": "clock",
        "ok": False,
        "detail": "a clock",
        "remedy": "buy a clock",
        "required": True,
    }


def test_top_without_an_agent_says_how_to_have_one(otel_oom_command):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        endpoint = f"127.0.0.1:{taken.getsockname()[1]}"
        done = otel_oom_command("top", "--once", "--endpoint", endpoint)

    assert (done.returncode, done.stdout) == (1, "")
    assert f"no agent answers at {endpoint}: [Errno 111]" in done.stderr
    assert "otel-oom run" in done.stderr
    assert "--endpoint" in done.stderr


def test_top_says_that_it_talks_to_something_else(otel_oom_command):
    with socket.create_server(("127.0.0.1", 0)) as other:
        answering = threading.Thread(target=_answer_once, args=(other,))
        answering.start()
        endpoint = f"127.0.0.1:{other.getsockname()[1]}"
        done = otel_oom_command("top", "--once", "--endpoint", endpoint)
        answering.join()

    assert (done.returncode, done.stdout) == (1, "")
    assert f"{endpoint} answers, but not as an agent" in done.stderr


def test_top_waits_for_no_answer_for_ever(otel_oom_command):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        done = otel_oom_command("top", "--once", "--endpoint", endpoint)

    assert (done.returncode, done.stdout) == (1, "")
    assert f"{endpoint} gave no answer within 5 s" in done.stderr


def _answer_once(server):
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")


def test_top_refuses_an_endpoint_that_is_none(otel_oom_command):
    done = otel_oom_command("top", "--once", "--endpoint", "nowhere")

    assert done.returncode == 1
    assert "must be `host:port`" in done.stderr


def test_only_top_imports_what_draws():
    """The agent's memory does not grow by it."""
    code = (
        "import sys; from otel_oom import cli; from otel_oom.service import registry, run;"
        "import otel_oom.receivers.storage, otel_oom.receivers.oom, otel_oom.extensions.health_check;"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in ('rich',)"
        " or name.startswith('otel_oom.top')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"
