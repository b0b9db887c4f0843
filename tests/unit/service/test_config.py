"""Sources to what the agent runs, with the real components."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest

from otel_oom import errors
from otel_oom.config import problems
from otel_oom.config.types import ComponentId, Secret
from otel_oom.pipeline.component import Kind
from otel_oom.pipeline.data import Signal
from otel_oom.service import config, settings

BASE = """\
receivers:
  oom:
processors:
  batch:
exporters:
  otlp_http:
    endpoint: http://127.0.0.1:4318
service:
  pipelines:
    logs:
      receivers: [oom]
      processors: [batch]
      exporters: [otlp_http]
"""


def load(*texts: str, sets: tuple[str, ...] = (), **env: str) -> config.AgentConfig:
    return config.load([f"yaml:{text}" for text in texts], sets, env)


def bad(*texts: str, sets: tuple[str, ...] = (), **env: str) -> list[str]:
    with pytest.raises(errors.ConfigError) as caught:
        load(*texts, sets=sets, **env)
    assert isinstance(caught.value, problems.InvalidConfig)
    assert all(problem.position for problem in caught.value.problems)
    return str(caught.value).splitlines()


def test_a_config_gives_its_components_and_pipelines() -> None:
    loaded = load(BASE)
    oom, batch, otlp = ComponentId("oom"), ComponentId("batch"), ComponentId("otlp_http")
    assert loaded.exporters[otlp].config.endpoint == "http://127.0.0.1:4318"
    assert loaded.components(Kind.PROCESSOR)[batch].factory.type_name == "batch"
    assert dict(loaded.service.pipelines) == {
        config.PipelineId(Signal.LOGS): config.Pipeline(
            receivers=(oom,), processors=(batch,), exporters=(otlp,)
        )
    }
    assert loaded.warnings == ()


def test_the_default_that_is_shipped_runs_both_receivers_to_the_terminal_and_a_file() -> None:
    loaded = config.load([])
    assert loaded.warnings == ()
    pipelines = {str(id_): pipeline for id_, pipeline in loaded.service.pipelines.items()}
    assert list(pipelines) == ["logs", "traces", "metrics", "metrics/storage"]
    assert [str(id_) for id_ in pipelines["logs"].receivers] == ["oom", "storage"]
    assert loaded.exporters[ComponentId("file")].config.path == "./oom.jsonl"
    assert loaded.service.extensions == (ComponentId("health_check"),)


def test_set_is_a_change_to_the_default_that_is_shipped() -> None:
    loaded = config.load([], ["exporters.file.path=/tmp/x.jsonl"])
    assert loaded.exporters[ComponentId("file")].config.path == "/tmp/x.jsonl"


def test_a_source_may_be_a_file_and_several_merge(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(BASE)
    over = "yaml:exporters: {otlp_http: {timeout: 3s}}"
    loaded = config.load([str(path), over], ["service.shutdown_timeout=${env:T}"], {"T": "4s"})
    assert loaded.exporters[ComponentId("otlp_http")].config.timeout == 3.0
    assert loaded.exporters[ComponentId("otlp_http")].config.endpoint == "http://127.0.0.1:4318"
    assert loaded.service.shutdown_timeout == 4.0


def test_the_promised_defaults_of_the_service() -> None:
    assert dataclasses.asdict(settings.Service()) == {
        "extensions": (),
        "pipelines": {},
        "telemetry": {
            "logs": {"level": "info"},
            "metrics": {
                "endpoint": None,
                "protocol": "grpc",
                "interval": 60.0,
                "headers": {},
                "insecure": False,
            },
            "resource": {},
        },
        "shutdown_timeout": 10.0,
    }


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "receivers: [oom]",
            "receivers: [omm]",
            "names `omm`, which `receivers` does not define (did you mean `oom`?)",
        ),
        (
            "receivers: [oom]",
            "receivers: []",
            "10:5 service.pipelines.logs: needs at least one of `rec",
        ),
        ("      exporters: [otlp_http]\n", "", "needs at least one of `exporters`"),
        (
            "    logs:\n",
            "    logs:\n      weight: 11\n",
            "11:15 service.pipelines.logs.weight: `weight` (11) must be within 1 and 10",
        ),
        ("[batch]", "[batch, batch]", "12:27 service.pipelines.logs.processors[1]: `batch` is in"),
        (
            "    logs:\n",
            "    log:\n",
            "10:5 service.pipelines.log: `log` is no valid id: the signal must",
        ),
        (
            "  otlp_http:\n",
            "  otlphtp:\n",
            "6:3 exporters.otlphtp: unknown type `otlphtp`; known are",
        ),
        ("  oom:\n", "  oom/:\n", "2:3 receivers.oom/: `oom/` is no valid id: the name '' after"),
        (
            "receivers:\n  oom:",
            "receivers: [oom]\nx:",
            "1:12 receivers: must be a mapping, not a list",
        ),
        (
            "receivers:\n",
            "connectors: {}\nreceivers:\n",
            "connectors are not supported; give each exp",
        ),
        ("receivers:\n", "reciever: {}\nreceivers:\n", "1:1 reciever: unknown section; known are"),
        ("service:\n", "service:\n  extension: []\n", "9:3 service.extension: unknown key"),
        (
            "service:\n",
            "service:\n  extensions: [pprof]\n",
            "the service names `pprof`, which `ext",
        ),
        (
            "service:\n",
            "service:\n  shutdown_timeout: 5\n",
            "9:21 service.shutdown_timeout: `5` has no",
        ),
        (
            "service:\n",
            "service:\n  telemetry: {metrics: {interval: 0s}}\n",
            "9:35 service.telemetry.metrics.interval: `interval` must be greater than 0",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(old: str, new: str, expected: str) -> None:
    assert old in BASE
    assert any(expected in line for line in bad(BASE.replace(old, new)))


@pytest.mark.parametrize("text", ["", "service:", "service: {pipelines: {}}", "receivers: {oom: }"])
def test_something_must_run(text: str) -> None:
    assert any("service.pipelines: at least one pipeline is needed" in line for line in bad(text))


def test_problems_of_every_part_are_told_at_once_in_order() -> None:
    text = BASE.replace("  batch:", "  batch: {timeout: 5}").replace("[oom]", "[omm]")
    lines = bad(text + "  telemetry: {logs: {level: loud}}\n", sets=("exporters.nope.x=1",))
    assert [line.split(": ")[0] for line in lines] == [
        "--set exporters.nope.x=… exporters.nope",
        "<config 1>:4:20 processors.batch.timeout",
        "<config 1>:11:19 service.pipelines.logs.receivers[0]",
        "<config 1>:14:29 service.telemetry.logs.level",
    ]


def test_syntax_errors_of_several_sources_are_told_at_once() -> None:
    lines = bad("a: [", "b: 1\nb: 2", sets=("c",))
    assert len(lines) == 3


def test_a_reference_that_fails_hides_no_other_problem_and_makes_none_of_its_own() -> None:
    text = BASE.replace("http://127.0.0.1:4318", "${http:x}").replace("[batch]", "[bat]")
    lines = bad(text)
    assert len(lines) == 2
    assert "the scheme `http` is not supported" in lines[0]
    assert "names `bat`" in lines[1]


def test_what_is_not_used_is_a_warning() -> None:
    text = BASE.replace("  oom:", "  oom:\n  oom/2:") + "extensions: {health_check: }\n"
    assert [str(warning) for warning in load(text).warnings] == [
        f"<config 1>:{place}, so it is not run"
        for place in (
            "3:3 receivers.oom/2: is not named by any pipeline",
            "15:14 extensions.health_check: is not named by `service.extensions`",
        )
    ]


def test_an_unset_variable_is_a_warning() -> None:
    loaded = load(BASE.replace("http://127.0.0.1:4318", "${env:WHERE}"))
    assert loaded.exporters[ComponentId("otlp_http")].config.endpoint == ""
    assert ["`WHERE` is not set" in str(warning) for warning in loaded.warnings] == [True]


def test_the_rendered_config_is_the_same_config_and_hides_secrets() -> None:
    sets = (
        "exporters.otlp_http.headers.authorization=pa$$ss",
        "service.telemetry.metrics={endpoint: 'http://x', headers: {k: hunter2}}",
        "service.telemetry.resource={a: 1, b: yes, c: 1.5, d: true}",
    )
    loaded = load(BASE, sets=sets)
    assert loaded.exporters[ComponentId("otlp_http")].config.headers == {
        "authorization": Secret("pa$ss")
    }
    assert load(config.to_yaml(loaded, reveal=True)) == loaded
    hidden = config.to_yaml(loaded)
    assert "hunter2" not in hidden
    assert "ss" not in [line.partition("authorization: ")[2] for line in hidden.splitlines()]
    assert hidden.count("[REDACTED]") == 2
    assert "interval: 1m\n" in hidden


def test_the_rendered_default_is_the_same_config() -> None:
    loaded = config.load([])
    assert load(config.to_yaml(loaded, reveal=True)) == loaded


def test_an_sdk_exporter_that_is_not_installed_is_refused_with_those_that_are():
    with pytest.raises(errors.ConfigError, match=r"`newrelic` is not installed; there are: .*"
                       r"console \(logs, traces, metrics\).*otlp_proto_grpc"):  # fmt: skip
        config.load([sdk_config("newrelic")])


def test_a_pipeline_of_a_signal_that_an_sdk_exporter_lacks_is_refused():
    with pytest.raises(errors.ConfigError, match=r"`sdk` takes traces; this pipeline carries logs"):
        config.load([sdk_config("console", signals="[traces]")])


def test_what_an_sdk_exporter_is_given_is_never_printed():
    text = config.to_yaml(config.load([sdk_config("console", options="{formatter: token}")]))
    assert "token" not in text


def sdk_config(name, signals="[]", options="{}"):
    return (
        f"yaml:{{receivers: {{oom: }}, exporters: {{sdk: {{exporter: {name}, signals: {signals}, "
        f"options: {options}}}}}, service: {{pipelines: {{logs: {{receivers: [oom], "
        "exporters: [sdk]}}}}"
    )
