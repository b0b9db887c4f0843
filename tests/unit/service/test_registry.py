"""Components found by entry point, those of other distributions too."""

from __future__ import annotations

import logging
import pathlib
import subprocess
import sys

import pytest
from doubles import distribution

from otel_oom import errors
from otel_oom.config.types import ComponentId
from otel_oom.pipeline import accounting, component
from otel_oom.pipeline.component import Kind
from otel_oom.service import config
from otel_oom.service.registry import Registry

FOREIGN = '''
"""A receiver of another package."""
import dataclasses
from otel_oom.pipeline import component
from otel_oom.pipeline.data import Signal

@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    rate: int = 7

class Foreign:
    def __init__(self, settings, config, consumers):
        self.name, self.rate, self.signals = settings.name, config.rate, list(consumers)
    async def start(self): ...
    async def shutdown(self): ...

FACTORY = component.Factory(
    type_name="foreign", kind=component.Kind.RECEIVER, config=Config, create=Foreign,
    signals={Signal.LOGS: component.Stability.ALPHA}, aliases=("old_foreign",),
)
'''

CONFIG = """
receivers: {%s/1: {rate: 9}}
exporters: {debug: }
service: {pipelines: {logs: {receivers: [%s/1], exporters: [debug]}}}
"""


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    distribution.install(
        monkeypatch,
        tmp_path / "site",
        "otel-oom-foreign",
        modules={
            "foreign_receiver": FOREIGN,
            "broken": "import no_such_module\n",
            "plain": "X = 5\n",
        },
        entry_points={
            "otel_oom.receivers": {
                "foreign": "foreign_receiver:FACTORY",
                "old_foreign": "foreign_receiver:FACTORY",
                "renamed": "foreign_receiver:FACTORY",
                "broken": "broken:FACTORY",
                "plain": "plain:X",
                "nothing": "plain:FACTORY",
            },
            "otel_oom.exporters": {"foreign": "foreign_receiver:FACTORY"},
        },
    )
    monkeypatch.delitem(sys.modules, "foreign_receiver", raising=False)


@pytest.mark.usefixtures("foreign")
def test_a_component_of_another_distribution_is_configured_and_made() -> None:
    loaded = config.load(["yaml:" + CONFIG % ("foreign", "foreign")])
    id_ = ComponentId("foreign", "1")
    factory, own = loaded.receivers[id_]
    settings = component.Settings(
        id=id_, ledger=accounting.Ledger(), report=print, board=None, version="0"
    )
    made = factory.create(settings, own, {})
    assert (made.name, made.rate, made.signals) == ("foreign/1", 9, [])


@pytest.mark.usefixtures("foreign")
def test_a_component_that_does_not_take_the_signal_of_its_pipeline_is_a_problem() -> None:
    with pytest.raises(errors.ConfigError) as caught:
        config.load(["yaml:" + (CONFIG % ("foreign", "foreign")).replace("logs:", "traces:")])
    assert str(caught.value) == (
        "<config 1>:4:44 service.pipelines.traces.receivers[0]: `foreign/1` takes logs; "
        "this pipeline carries traces"
    )


@pytest.mark.usefixtures("foreign")
def test_an_alias_is_the_same_component_and_hinted_at_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = Registry()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            config.load(["yaml:" + CONFIG % ("old_foreign", "old_foreign")], known=registry)
    assert registry.factory(Kind.RECEIVER, "old_foreign") is registry.factory(
        Kind.RECEIVER, "foreign"
    )
    assert caplog.messages == [
        "`old_foreign` is an older name of `foreign`; please use the new one"
    ]


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("broken", "cannot be imported: ModuleNotFoundError: No module named 'no_such_module'"),
        ("nothing", "cannot be imported: AttributeError"),
        ("plain", "is no component.Factory"),
        ("renamed", "is registered as `renamed` of the receivers, but is `foreign`"),
    ],
)
def test_a_broken_entry_point_names_its_distribution(name: str, expected: str) -> None:
    with pytest.raises(errors.ComponentError) as caught:
        Registry().factory(Kind.RECEIVER, name)
    assert "of the distribution otel-oom-foreign 1.2" in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.usefixtures("foreign")
def test_a_broken_entry_point_that_is_configured_is_a_problem_with_its_place() -> None:
    with pytest.raises(errors.ConfigError) as caught:
        config.load(["yaml:" + CONFIG % ("broken", "broken")])
    assert str(caught.value).startswith(
        "<config 1>:2:13 receivers.broken/1: `broken:FACTORY` of the"
    )


@pytest.mark.usefixtures("foreign")
def test_all_components_are_listed_with_stability_and_broken_ones_with_the_error() -> None:
    listed = {(each.kind, each.name): each for each in Registry().components()}
    foreign = listed[Kind.RECEIVER, "foreign"]
    assert foreign.distribution == "otel-oom-foreign 1.2"
    assert foreign.factory
    assert list(foreign.factory.signals.values()) == [component.Stability.ALPHA]
    assert listed[Kind.RECEIVER, "oom"].factory
    assert "no_such_module" in listed[Kind.RECEIVER, "broken"].error
    assert (Kind.RECEIVER, "old_foreign") not in listed
    assert "is `foreign` of the receivers" in listed[Kind.EXPORTER, "foreign"].error


@pytest.mark.usefixtures("foreign")
def test_types_are_known_without_importing_anything() -> None:
    assert "foreign" in Registry().types(Kind.RECEIVER)
    assert "foreign_receiver" not in sys.modules


def test_two_distributions_with_one_type_are_both_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    for name in ("first", "second"):
        entry_points = {"otel_oom.receivers": {"twice": f"{name}_module:FACTORY"}}
        distribution.install(
            monkeypatch, tmp_path / name, name, modules={}, entry_points=entry_points
        )
    with pytest.raises(errors.ComponentError, match=r"`twice` is provided by .*first.*; uninstall"):
        Registry().factory(Kind.RECEIVER, "twice")


HTTP_ONLY = """
import sys
from otel_oom.service import config
config.load(["yaml:"
    "receivers: {oom: }\\n"
    "processors: {batch: }\\n"
    "exporters: {otlp_http: {endpoint: 'http://127.0.0.1:4318'}}\\n"
    "service: {pipelines: {logs: {receivers: [oom], processors: [batch], exporters: [otlp_http]}}}"])
print(sorted({"grpc", "opentelemetry.sdk", "otel_oom.exporters.otlp_grpc"} & set(sys.modules)))
"""


def test_an_agent_that_speaks_http_only_never_imports_grpc() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HTTP_ONLY], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
