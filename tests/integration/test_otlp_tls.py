"""TLS and mTLS of both OTLP exporters, with certificates made by openssl."""

from __future__ import annotations

import asyncio
import shutil
import ssl

import grpc
import pytest
from doubles import certificates, exporting, otlp_server, otlp_sides, real_collector

from otel_oom import errors
from otel_oom.config.types import Secret
from otel_oom.exporters import otlp_grpc, otlp_http
from otel_oom.pipeline.sending.retry import RetryConfig
from otel_oom.pipeline.tls import TlsConfig

pytestmark = pytest.mark.usefixtures("no_proxies")

NO_RETRY = RetryConfig(enabled=False)
FAST = RetryConfig(initial_interval=0.05, max_interval=0.1, max_elapsed_time=60)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """Two roots, and certificates of the first: good, wrong name, expired, client."""
    directory = tmp_path_factory.mktemp("pki")
    ours = certificates.Authority(directory, "ours")
    return {
        "ours": ours,
        "others": certificates.Authority(directory, "others"),
        "server": ours.issue("server"),
        "misnamed": ours.issue("misnamed", host="elsewhere.example"),
        "expired": ours.issue("expired", days=-1),
        "client": ours.issue("client", host="agent"),
    }


class Side:
    """One transport: how its server is started, and its exporter made."""

    def __init__(self, module):
        self.module = module
        self.server = otlp_server.GrpcServer() if module is otlp_grpc else otlp_server.HttpServer()

    def credentials(self, authority, pair, *, mtls=False):
        if self.module is otlp_http:
            return authority.server_context(pair, mtls=mtls)
        root = authority.root.cert.read_bytes() if mtls else None
        return grpc.ssl_server_credentials([pair.texts()], root, mtls)

    @property
    def port(self):
        if self.module is otlp_http:
            return self.server.port
        return int(self.server.address.split(":")[1])

    @property
    def endpoint(self):
        return f"https://localhost:{self.port}"


@pytest.fixture(params=[otlp_grpc, otlp_http], ids=["grpc", "http"])
def side(request):
    return Side(request.param)


def sending(side, endpoint=None, *, retry=NO_RETRY, timeout_s=20.0, **tls):
    return otlp_sides.exporter_of(
        side.module,
        endpoint=endpoint or side.endpoint,
        tls=TlsConfig(**{k: str(v) if k.endswith("_file") else v for k, v in tls.items()}),
        retry_on_failure=retry,
        timeout=timeout_s,
    )


async def send_one(agent, exporter):
    await agent.consume(exporter, exporting.logs("a"))
    return await exporting.settled(agent)


async def outcome(side, credentials, **tls):
    async with (
        otlp_server.serving(side.server, credentials),
        sending(side, **tls) as (agent, exporter),
    ):
        sums = await send_one(agent, exporter)
        return sums, " ".join(status.detail for status in agent.statuses)


DELIVERED = {"delivered": 1}
FAILED = {"retries_exhausted": 1}


async def test_a_certificate_of_the_given_root_is_accepted(side, pki):
    credentials = side.credentials(pki["ours"], pki["server"])

    assert (await outcome(side, credentials, ca_file=pki["ours"].root.cert))[0] == DELIVERED


async def test_the_root_may_be_text(side, pki):
    credentials = side.credentials(pki["ours"], pki["server"])
    text = pki["ours"].root.cert.read_text()

    assert (await outcome(side, credentials, ca_pem=text))[0] == DELIVERED


@pytest.mark.parametrize(
    "tls", [{}, {"include_system_ca_certs_pool": True}], ids=["system", "both"]
)
async def test_another_root_is_not_accepted(side, pki, tls):
    credentials = side.credentials(pki["ours"], pki["server"])
    root = {"ca_file": pki["others"].root.cert} if tls else {}
    sums, detail = await outcome(side, credentials, **root, **tls)

    assert sums == FAILED
    assert "certificate" in detail.lower()


async def test_a_name_that_is_not_the_hosts_is_not_accepted(side, pki):
    credentials = side.credentials(pki["ours"], pki["misnamed"])

    assert (await outcome(side, credentials, ca_file=pki["ours"].root.cert))[0] == FAILED


async def test_the_name_to_expect_can_be_given(side, pki):
    credentials = side.credentials(pki["ours"], pki["misnamed"])
    tls = {"ca_file": pki["ours"].root.cert, "server_name_override": "elsewhere.example"}

    assert (await outcome(side, credentials, **tls))[0] == DELIVERED


async def test_an_expired_certificate_is_not_accepted(side, pki):
    credentials = side.credentials(pki["ours"], pki["expired"])
    sums, detail = await outcome(side, credentials, ca_file=pki["ours"].root.cert)

    assert sums == FAILED
    assert "certificate" in detail.lower()


async def test_mtls_with_files(side, pki):
    credentials = side.credentials(pki["ours"], pki["server"], mtls=True)
    client = {"cert_file": pki["client"].cert, "key_file": pki["client"].key}

    sums, _ = await outcome(side, credentials, ca_file=pki["ours"].root.cert, **client)
    assert sums == DELIVERED


async def test_mtls_with_texts(side, pki):
    credentials = side.credentials(pki["ours"], pki["server"], mtls=True)
    key = Secret(pki["client"].key.read_text())
    client = {"cert_pem": pki["client"].cert.read_text(), "key_pem": key}

    sums, _ = await outcome(side, credentials, ca_file=pki["ours"].root.cert, **client)
    assert sums == DELIVERED


async def test_mtls_without_a_certificate_is_refused_by_the_server(side, pki):
    credentials = side.credentials(pki["ours"], pki["server"], mtls=True)

    assert (await outcome(side, credentials, ca_file=pki["ours"].root.cert))[0] == FAILED


async def test_a_server_without_tls_gets_nothing(side):
    async with otlp_server.serving(side.server), sending(side, timeout_s=0.5) as (agent, exporter):
        assert await send_one(agent, exporter) == FAILED
        assert side.server.received == []


async def test_a_root_that_is_replaced_is_followed_without_a_restart(side, pki, tmp_path):
    root = tmp_path / "ca.pem"
    shutil.copy(pki["others"].root.cert, root)
    credentials = side.credentials(pki["ours"], pki["server"])
    async with (
        otlp_server.serving(side.server, credentials),
        sending(side, ca_file=root, retry=FAST) as (agent, exporter),
    ):
        await agent.consume(exporter, exporting.logs("a"))
        while not agent.statuses:
            await asyncio.sleep(0.005)
        shutil.copy(pki["ours"].root.cert, tmp_path / "new.pem")
        (tmp_path / "new.pem").replace(root)

        assert await send_one(agent, exporter) == {"delivered": 2}


async def test_a_root_that_is_half_written_is_an_error_that_passes(side, pki, tmp_path):
    root = tmp_path / "ca.pem"
    shutil.copy(pki["others"].root.cert, root)
    credentials = side.credentials(pki["ours"], pki["server"])
    async with (
        otlp_server.serving(side.server, credentials),
        sending(side, ca_file=root, retry=FAST) as (agent, exporter),
    ):
        root.write_text("-----BEGIN CERT")
        await agent.consume(exporter, exporting.logs("a"))
        while not agent.statuses:
            await asyncio.sleep(0.005)
        assert agent.sum() == {"held": 1}
        root.write_bytes(pki["ours"].root.cert.read_bytes())

        assert await send_one(agent, exporter) == {"delivered": 2}


@pytest.mark.parametrize("key", ["ca_file", "cert_file", "key_file"])
async def test_a_missing_file_stops_the_start_and_is_named_with_its_key(side, pki, key, tmp_path):
    client = {"cert_file": pki["client"].cert, "key_file": pki["client"].key}
    tls = {"ca_file": pki["ours"].root.cert, **client, key: tmp_path / "missing.pem"}

    with pytest.raises(errors.ComponentError, match=rf"tls.{key} {tmp_path}/missing.pem: No such"):
        async with sending(side, "https://localhost:1", **tls):
            pass


async def test_files_that_hold_something_else_stop_the_start(side, pki, tmp_path):
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")

    with pytest.raises(errors.ComponentError, match=f"tls.ca_file {junk} holds no certificate"):
        async with sending(side, "https://localhost:1", ca_file=junk):
            pass
    with pytest.raises(errors.ComponentError, match="are no PEM certificate with its key"):
        async with sending(
            side, "https://localhost:1", cert_file=pki["client"].cert, key_file=pki["server"].key
        ):
            pass


async def test_http_verification_can_be_switched_off(pki):
    side = Side(otlp_http)
    credentials = side.credentials(pki["ours"], pki["misnamed"])

    assert (await outcome(side, credentials, insecure_skip_verify=True))[0] == DELIVERED


@pytest.mark.parametrize(("client", "sums"), [("1.2", DELIVERED), ("1.3", FAILED)])
async def test_http_the_oldest_tls_version(pki, client, sums):
    side = Side(otlp_http)
    credentials = side.credentials(pki["ours"], pki["server"])
    credentials.maximum_version = ssl.TLSVersion.TLSv1_2
    tls = {"ca_file": pki["ours"].root.cert, "min_version": client}

    assert (await outcome(side, credentials, **tls))[0] == sums


async def test_http_kept_connections_work_with_tls(pki):
    side = Side(otlp_http)
    credentials = side.credentials(pki["ours"], pki["server"])
    async with (
        otlp_server.serving(side.server, credentials),
        sending(side, ca_file=pki["ours"].root.cert) as (agent, exporter),
    ):
        for _ in range(3):
            await send_one(agent, exporter)

        assert side.server.connections == 1


async def until_it_fails(agent):
    while not agent.statuses:
        await asyncio.sleep(0.005)
    assert agent.sum()["held"] == 1


@pytest.mark.parametrize("wrong", ["others", "misnamed", "expired"])
async def test_what_could_not_be_sent_arrives_once_the_server_has_a_good_certificate(
    side, pki, wrong
):
    bad = (
        pki["others"].issue(f"server-{side.module.FACTORY.type_name}")
        if wrong == "others"
        else pki[wrong]
    )
    bad_side, port = side.credentials(pki["ours"], bad), real_collector.free_ports(1)[0]
    async with sending(
        side, f"https://localhost:{port}", ca_file=pki["ours"].root.cert, retry=FAST
    ) as (agent, exporter):
        async with otlp_server.serving(side.server, bad_side, port):
            await agent.consume(exporter, exporting.logs("a"))
            await until_it_fails(agent)
            assert side.server.received == [], "nothing was told to a server that is not ours"
        async with otlp_server.serving(
            side.server, side.credentials(pki["ours"], pki["server"]), port
        ):
            assert await exporting.settled(agent) == DELIVERED


async def test_an_authority_that_is_rotated_under_a_running_agent_is_followed(side, pki, tmp_path):
    """The server comes back with a certificate of another root, and the root's file follows later."""
    root, port = tmp_path / "ca.pem", real_collector.free_ports(1)[0]
    shutil.copy(pki["ours"].root.cert, root)
    theirs = pki["others"].issue(f"rotated-{side.module.FACTORY.type_name}")
    async with sending(side, f"https://localhost:{port}", ca_file=root, retry=FAST) as (
        agent,
        exporter,
    ):
        async with otlp_server.serving(
            side.server, side.credentials(pki["ours"], pki["server"]), port
        ):
            assert await send_one(agent, exporter) == DELIVERED
        async with otlp_server.serving(side.server, side.credentials(pki["others"], theirs), port):
            await agent.consume(exporter, exporting.logs("b"))
            await until_it_fails(agent)
            replace(root, pki["others"].root.cert)

            assert await exporting.settled(agent) == {"delivered": 2}


async def test_a_client_certificate_that_is_rotated_is_used_without_a_restart(side, pki, tmp_path):
    """The server trusts clients of another authority than ours is of, until ours is renewed."""
    cert, key = tmp_path / "client.pem", tmp_path / "client.key"
    shutil.copy(pki["client"].cert, cert)
    shutil.copy(pki["client"].key, key)
    renewed = pki["others"].issue(f"client-{side.module.FACTORY.type_name}", host="agent")
    credentials = mtls_of_another(side, pki)
    async with (
        otlp_server.serving(side.server, credentials),
        sending(side, ca_file=pki["ours"].root.cert, cert_file=cert, key_file=key, retry=FAST) as (
            agent,
            exporter,
        ),
    ):
        await agent.consume(exporter, exporting.logs("a"))
        await until_it_fails(agent)
        replace(key, renewed.key)  # for a moment it is of another certificate
        replace(cert, renewed.cert)

        assert await exporting.settled(agent) == DELIVERED


def mtls_of_another(side, pki):
    """A server of ours that takes clients of the others only."""
    if side.module is otlp_http:
        context = pki["ours"].server_context(pki["server"])
        context.load_verify_locations(pki["others"].root.cert)
        context.verify_mode = ssl.CERT_REQUIRED
        return context
    root = pki["others"].root.cert.read_bytes()
    return grpc.ssl_server_credentials([pki["server"].texts()], root, True)


def replace(path, source):
    """As those do who rotate: written beside it, then renamed over it."""
    beside = path.with_suffix(".new")
    shutil.copy(source, beside)
    beside.replace(path)
