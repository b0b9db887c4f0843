"""The real Tempo and Loki, one each for all tests, and one run of the agent that sends to both."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from doubles import grafana_backend, grafana_told, loki, skips, tempo


@pytest.fixture(scope="session")
def tempo_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tempo.Tempo]:
    """A real Tempo with tenants (mark the test with `go`)."""
    _build("tempo")
    with tempo.running(tmp_path_factory.mktemp("tempo")) as server:
        yield server


@pytest.fixture(scope="session")
def loki_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[loki.Loki]:
    """A real Loki with tenants (mark the test with `go`)."""
    _build("loki")
    with loki.running(tmp_path_factory.mktemp("loki")) as server:
        yield server


@pytest.fixture(scope="session")
def told(
    tempo_server: tempo.Tempo, loki_server: loki.Loki, tmp_path_factory: pytest.TempPathFactory
) -> grafana_told.Told:
    """What one run with configs/grafana-tempo-loki.yaml told both (mark with `root`, `storage`, `go`)."""
    folder = tmp_path_factory.mktemp("grafana")
    return grafana_told.run(folder, tempo_server.grpc_endpoint, loki_server.endpoint)


def _build(name: str) -> None:
    if sentence := skips.go():
        pytest.skip(sentence)
    try:
        grafana_backend.build(name)
    except grafana_backend.BuildFailed as error:
        pytest.skip(f"needs the Go modules of {name}, which did not come: {error}; check GOPROXY")
