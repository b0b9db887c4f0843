"""Fixtures that several of these files use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from doubles import memory_cgroup, otlp_server, otlp_sides

MIB = 1024 * 1024


@pytest.fixture
def group() -> Iterator[memory_cgroup.MemoryCgroup]:
    """A memory cgroup of 32 MiB (mark the test with `root`)."""
    with memory_cgroup.temporary(32 * MIB) as made:
        yield made


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy of the machine stands between an exporter and its server."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def grpc_side() -> AsyncIterator[otlp_sides.Grpc]:
    """`otlp_grpc` and its server."""
    async with otlp_server.serving(otlp_server.GrpcServer()) as server:
        yield otlp_sides.Grpc(server)


@pytest.fixture
async def http_side() -> AsyncIterator[otlp_sides.Http]:
    """`otlp_http` and its server."""
    async with otlp_server.serving(otlp_server.HttpServer()) as server:
        yield otlp_sides.Http(server)


@pytest.fixture(params=["grpc", "http", "http_json"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[otlp_sides.Grpc | otlp_sides.Http]:
    """Each transport in turn."""
    kind = otlp_server.GrpcServer if request.param == "grpc" else otlp_server.HttpServer
    async with otlp_server.serving(kind()) as server:
        if request.param == "grpc":
            yield otlp_sides.Grpc(server)
        else:
            yield otlp_sides.Http(server, "json" if request.param == "http_json" else "proto")
