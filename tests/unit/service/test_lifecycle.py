"""The contract of every component that is installed, ours or another package's: its life.

`shutdown` is safe before `start`, and twice; a component that has not been used holds nothing.
"""

import pytest
from doubles import sink

from otel_oom.config.types import ComponentId
from otel_oom.pipeline.component import Kind
from otel_oom.pipeline.data import Signal
from otel_oom.service import config as configs
from otel_oom.service.registry import Registry

INSTALLED = Registry().components()
NEEDS = {
    "memory_limiter": {"limit_mib": 1000},
    "file": {"path": "{folder}/out.jsonl"},
    "sdk": {"exporter": "console"},
    "otlp_grpc": {"endpoint": "http://127.0.0.1:9"},
    "otlp_http": {"endpoint": "http://127.0.0.1:9"},
    "health_check": {"endpoint": "127.0.0.1:0"},
    "file_storage": {"directory": "{folder}"},
}
"""What has no default, or a default that a test must not use."""


@pytest.fixture
def create(tmp_path):
    """Makes a component from a configuration that is loaded as a user's is."""

    def make(listed, bench):
        options = [
            f"--set={listed.kind}.{listed.name}.{key}={str(value).format(folder=tmp_path)}"
            for key, value in NEEDS.get(listed.name, {}).items()
        ]
        sets = [option.removeprefix("--set=") for option in options]
        config = configs.load(["yaml:" + _around(listed)], sets)
        configured = config.components(listed.kind)[ComponentId(listed.name)]
        end = sink.Sink(bench.ledger)
        links = {
            Kind.RECEIVER: [dict.fromkeys(configured.factory.signals, end)],
            Kind.PROCESSOR: [end],
        }.get(listed.kind, [])
        settings = bench.settings(listed.name)
        return configured.factory.create(settings, configured.config, *links)

    return make


def _around(listed):
    """A configuration in which a component is used in a way that is allowed."""
    used = {Kind.RECEIVER: "oom", Kind.EXPORTER: "debug"} | {listed.kind: listed.name}
    sections = "".join(f"{kind}: {{{name}: {{}}}}\n" for kind, name in used.items())
    processors = f"[{used[Kind.PROCESSOR]}]" if Kind.PROCESSOR in used else "[]"
    extensions = f"[{used[Kind.EXTENSION]}]" if Kind.EXTENSION in used else "[]"
    return (
        f"{sections}service:\n  extensions: {extensions}\n  pipelines:\n    logs: "
        f"{{receivers: [{used[Kind.RECEIVER]}], processors: {processors}, "
        f"exporters: [{used[Kind.EXPORTER]}]}}\n"
    )


def _named(listed):
    return f"{listed.kind}/{listed.name}"


@pytest.mark.parametrize("listed", INSTALLED, ids=_named)
def test_every_installed_component_can_be_imported(listed):
    assert listed.error == ""


@pytest.mark.parametrize("listed", INSTALLED, ids=_named)
async def test_shutdown_is_safe_before_start_and_twice(listed, create):
    bench = sink.Bench()
    made = create(listed, bench)
    await made.shutdown()
    await made.shutdown()

    assert all(bench.ledger.balance(signal).difference == 0 for signal in Signal)
    assert all(bench.ledger.balance(signal).held == 0 for signal in Signal)


@pytest.mark.parametrize(
    "listed", [one for one in INSTALLED if one.kind is not Kind.RECEIVER], ids=_named
)
async def test_what_was_started_and_not_used_stops_and_holds_nothing(listed, create):
    bench = sink.Bench()
    made = create(listed, bench)
    await made.start()
    await made.shutdown()
    await made.shutdown()

    assert all(bench.ledger.balance(signal).held == 0 for signal in Signal)


@pytest.mark.parametrize(
    "listed", [one for one in INSTALLED if one.kind is Kind.EXPORTER], ids=_named
)
async def test_every_exporter_accounts_for_an_item_that_it_has_taken_when_it_stops(
    listed, create, monkeypatch, tmp_path
):
    with (tmp_path / "stdout").open("w") as stdout:
        monkeypatch.setattr("sys.stdout", stdout)
        bench = sink.Bench()
        made = create(listed, bench)
        await made.start()
        batch = sink.log_batch("a", "b")
        bench.ledger.produced("test", Signal.LOGS, batch.items)
        await made.consume(batch)
        await made.shutdown()

    balance = bench.ledger.balance(Signal.LOGS)
    assert (balance.difference, balance.held) == (0, 0)
