"""Every configuration that is shipped is valid, as the real command says; so is the collector's."""

from __future__ import annotations

import pathlib
import subprocess
import sys
from importlib import resources

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
SHIPPED = sorted(ROOT.glob("configs/*.yaml"))
EXAMPLES = sorted(ROOT.glob("docs/components/*/*.example.yaml"))
COLLECTOR = ROOT / "configs" / "collector" / "otel-collector.yaml"


def _validate(config: pathlib.Path, *more: str, **variables: str) -> tuple[int, str]:
    """Exit status and words of `otel-oom validate` in an environment of these variables only."""
    command = [sys.executable, "-P", "-m", "otel_oom", "validate", "--config", config, *more]
    done = subprocess.run(
        command, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("config", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_config_is_valid_without_any_variable(config: pathlib.Path) -> None:
    """Without a warning, too: each variable has a default."""
    assert _validate(config) == (0, "the configuration is valid\n")


@pytest.mark.parametrize("config", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_valid(config: pathlib.Path) -> None:
    assert _validate(config, OTLP_TOKEN="x", NODE_NAME="n") == (0, "the configuration is valid\n")


def test_a_broken_one_is_not() -> None:
    status, said = _validate(SHIPPED[0], "--set", "receivers.oom.setle=1s")

    assert status == 2
    assert "did you mean `settle`?" in said


def test_the_variables_of_the_daemonset_are_used() -> None:
    config = ROOT / "configs" / "daemonset.yaml"
    command = [sys.executable, "-P", "-m", "otel_oom", "print-config", "--config", config]
    variables = {
        "NODE_NAME": "node-7",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://backend:4317",
        "HEALTH_ENDPOINT": "0.0.0.0:13133",
    }
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    shown = yaml.safe_load(done.stdout)

    assert shown["exporters"]["otlp_grpc"]["endpoint"] == "http://backend:4317"
    assert shown["processors"]["resource"]["attributes"][0]["value"] == "node-7"
    assert shown["extensions"]["health_check"]["endpoint"] == "0.0.0.0:13133"
    assert shown["receivers"]["oom"]["root_path"] == "/host"


def test_the_default_is_the_embedded_one() -> None:
    embedded = resources.files("otel_oom.service").joinpath("default.yaml").read_bytes()

    assert (ROOT / "configs" / "default.yaml").read_bytes() == embedded


def test_every_pipeline_has_what_it_names_and_nothing_is_unused() -> None:
    """The loader only warns of what is defined and not used; in an example it would mislead."""
    for path in SHIPPED:
        config = yaml.safe_load(path.read_text())
        pipelines = config["service"]["pipelines"].values()
        for kind in ("receivers", "processors", "exporters"):
            named = {id_ for pipeline in pipelines for id_ in pipeline.get(kind, ())}
            assert set(config.get(kind, ())) == named, path


def test_the_sidecar_and_its_collector_meet() -> None:
    """The agent sends to where the collector listens."""
    agent = yaml.safe_load((ROOT / "configs" / "sidecar.yaml").read_text())
    collector = yaml.safe_load(COLLECTOR.read_text())
    endpoint = agent["exporters"]["otlp_grpc"]["endpoint"]

    listens = collector["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"]
    assert endpoint.removeprefix("http://") == listens
    assert set(agent["service"]["pipelines"]) == set(collector["service"]["pipelines"])


@pytest.mark.go
def test_the_real_collector_takes_its_config(collector_binary: pathlib.Path) -> None:
    command = [collector_binary, "validate", "--config", f"file:{COLLECTOR}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert (done.returncode, done.stdout + done.stderr) == (0, "")
