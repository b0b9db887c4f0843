"""The `resource` processor: what it finds out, and its edits."""

import platform
import re
import socket

import pytest
from doubles import sink

from otel_oom.pipeline import data, otlp
from otel_oom.pipeline.environment import resource as environment
from otel_oom.processors import resource
from otel_oom.processors.resource import Action, Config
from otel_oom.processors.resource.detect import operating_system


async def processed(config, attributes):
    """The attributes of one resource after the processor."""
    bench, end = sink.Bench(), sink.Sink()
    processor = resource.FACTORY.create(bench.settings("resource"), config, end)
    await processor.start()
    await processor.consume(sink.log_batch("a", resource=attributes))
    await processor.shutdown()
    return otlp.attributes(end.batches[0].data.resource_logs[0].resource.attributes)


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch):
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES", raising=False)
    monkeypatch.delenv("OTEL_SERVICE_NAME", raising=False)


@pytest.fixture
def host_root(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/hostname").write_text("node-1\n")
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (tmp_path / "etc/os-release").write_text(
        '# a comment=1\nNAME="Some OS"\nVERSION_ID=\'7\'\nPRETTY_NAME="Some OS 7 (Tall)"\n'
    )
    return tmp_path


async def test_the_default_says_which_host_and_os_this_is():
    found = await processed(Config(), {"k": "v"})

    assert found["k"] == "v"
    assert found["host.name"] == socket.gethostname()
    assert found["os.type"] == "linux"
    assert found["host.arch"] in ("amd64", "arm64", platform.machine())


async def test_a_mounted_host_is_read_in_place_of_the_container(host_root):
    found = await processed(Config(detectors=["host", "os"], root_path=str(host_root)), {})

    assert found["host.name"] == "node-1"
    assert found["host.id"] == "0123456789abcdef0123456789abcdef"
    assert (found["os.name"], found["os.version"]) == ("Some OS", "7")
    assert found["os.description"] == f"Some OS 7 (Tall) (Linux {platform.release()})"


async def test_what_cannot_be_found_is_left_out(tmp_path):
    found = await processed(Config(root_path=str(tmp_path)), {})

    assert found.keys() == {"host.arch", "os.type", "os.description"}


async def test_the_environment_comes_first_and_the_service_name_wins(monkeypatch):
    monkeypatch.setenv(
        "OTEL_RESOURCE_ATTRIBUTES", "host.name=given,service.name=a,note=50%25%2C%20fine"
    )
    monkeypatch.setenv("OTEL_SERVICE_NAME", "b")

    found = await processed(Config(), {})

    assert found["host.name"] == "given"
    assert found["service.name"] == "b"
    assert found["note"] == "50%, fine"


@pytest.mark.parametrize(("override", "name"), [(True, socket.gethostname()), (False, "mine")])
async def test_override_decides_between_what_is_there_and_what_was_found(override, name):
    found = await processed(Config(override=override), {"host.name": "mine"})

    assert found["host.name"] == name


@pytest.mark.parametrize("pair", ["novalue", "=x", "a=%zz", "a=%ff"])
def test_a_malformed_pair_is_left_out_with_a_warning_that_names_it(pair):
    warnings = []

    found = environment({"OTEL_RESOURCE_ATTRIBUTES": f"good=1,{pair},, also = 2 "}, warnings.append)

    assert found == {"good": "1", "also": "2"}
    assert len(warnings) == 1
    assert repr(pair) in warnings[0]


def test_broken_quotes_in_os_release_are_taken_as_they_are(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").write_text('NAME="open\n')

    assert operating_system(tmp_path)["os.name"] == '"open'


@pytest.mark.parametrize(
    ("action", "before", "after"),
    [
        ("insert", {}, {"k": "new"}),
        ("insert", {"k": "old"}, {"k": "old"}),
        ("update", {}, {}),
        ("update", {"k": "old"}, {"k": "new"}),
        ("upsert", {}, {"k": "new"}),
        ("upsert", {"k": "old", "x": 1}, {"k": "new", "x": 1}),
    ],
)
async def test_actions_are_the_collectors(action, before, after):
    edit = Action(key="k", action=action, value="new")

    assert await processed(Config(detectors=[], attributes=[edit]), before) == after


async def test_edits_run_in_order_after_the_detection():
    config = Config(
        attributes=[
            Action(key="os.type", action="delete"),
            Action(key="replicas", action="upsert", value=3),
            Action(key="replicas", action="update", value=4),
        ]
    )

    found = await processed(config, {})

    assert "os.type" not in found
    assert found["replicas"] == 4


@pytest.mark.parametrize(
    "options",
    [
        {"key": "", "action": "delete"},
        {"key": "k", "action": "insert"},
        {"key": "k", "action": "delete", "value": 1},
    ],
)
def test_an_action_that_makes_no_sense_is_refused(options):
    ((_, message),) = Action(**options).validate()

    assert re.search("`(key|value)`", message)


async def test_all_signals_are_edited():
    bench, end = sink.Bench(), sink.Sink()
    config = Config(detectors=[], attributes=[Action(key="k", action="insert", value=True)])
    processor = resource.FACTORY.create(bench.settings("resource"), config, end)
    await processor.start()
    for make, message in (
        (data.traces, data.ResourceSpans),
        (data.metrics, data.ResourceMetrics),
        (data.logs, data.ResourceLogs),
    ):
        await processor.consume(make(message()))

    for batch, field in zip(
        end.batches, ("resource_spans", "resource_metrics", "resource_logs"), strict=True
    ):
        (one,) = getattr(batch.data, field)
        assert otlp.attributes(one.resource.attributes) == {"k": True}


def test_it_says_that_it_changes_batches():
    assert resource.FACTORY.mutates
