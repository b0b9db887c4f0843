"""Who we say we are: tokens and roots that change, kubeconfigs, and what is missing."""

import json
import os
import pathlib
import ssl
import sys

import pytest
from doubles import certificates

from otel_oom import errors
from otel_oom.kubernetes import credentials, kubeconfig

ENVIRONMENT = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}


@pytest.fixture
def authority(tmp_path: pathlib.Path) -> certificates.Authority:
    return certificates.Authority(tmp_path)


@pytest.fixture
def folder(tmp_path: pathlib.Path, authority: certificates.Authority) -> pathlib.Path:
    """As a kubelet mounts it: links into a folder that is replaced as a whole."""
    fill(tmp_path, "first", "token-1", authority)
    for name in ("token", "ca.crt"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    return tmp_path


def fill(folder: pathlib.Path, version: str, token: str, authority: certificates.Authority) -> None:
    data = folder / version
    data.mkdir()
    (data / "token").write_text(token + "\n")
    (data / "ca.crt").write_bytes(authority.root.cert.read_bytes())
    fresh = folder / "..data_new"
    fresh.symlink_to(version)
    fresh.rename(folder / "..data")


def subjects(context: ssl.SSLContext) -> list[str]:
    return [found["subject"][0][0][1] for found in context.get_ca_certs()]


async def test_a_rotated_token_and_root_are_used(folder: pathlib.Path):
    found = credentials.service_account(ENVIRONMENT, folder)
    assert found.url == "https://10.0.0.1:443"
    assert await found.authorization() == "Bearer token-1"
    before = found.context()
    assert found.context() is before

    fill(folder, "second", "token-2", certificates.Authority(folder, "other"))

    assert await found.authorization() == "Bearer token-2"
    assert (subjects(before), subjects(found.context())) == (["root"], ["other"])


async def test_a_root_that_is_broken_for_a_while_is_an_error_for_that_while(folder: pathlib.Path):
    found = credentials.service_account(ENVIRONMENT, folder)
    whole = (folder / "ca.crt").read_bytes()
    (folder / "first" / "ca.crt").write_bytes(b"half of it")

    with pytest.raises(errors.KubernetesError, match=r"ca\.crt: .*; give a PEM file") as raised:
        found.context()
    assert raised.value.reason == "credentials"

    (folder / "first" / "ca.crt").write_bytes(whole)
    assert subjects(found.context()) == ["root"]


@pytest.mark.parametrize("text", ["", "two words", "line\nbreak"])
async def test_a_token_that_is_none_is_not_sent(folder: pathlib.Path, text: str):
    found = credentials.service_account(ENVIRONMENT, folder)
    (folder / "first" / "token").write_text(text)

    with pytest.raises(errors.KubernetesError, match="token: it holds no token"):
        await found.authorization()


def test_an_address_of_ipv6_is_in_brackets(folder: pathlib.Path):
    environment = ENVIRONMENT | {"KUBERNETES_SERVICE_HOST": "fd00::1"}

    assert credentials.service_account(environment, folder).url == "https://[fd00::1]:443"


def test_outside_of_a_pod_the_error_names_the_remedy(folder: pathlib.Path):
    with pytest.raises(errors.ComponentError, match="use auth_type kubeConfig"):
        credentials.service_account({}, folder)


@pytest.mark.parametrize("missing", ["token", "ca.crt"])
def test_a_file_that_is_missing_at_the_start_is_named(folder: pathlib.Path, missing: str):
    (folder / missing).unlink()

    with pytest.raises(errors.ComponentError, match=rf"{missing}: No such file"):
        credentials.service_account(ENVIRONMENT, folder)


async def test_without_files_nobody_is_said_and_with_verify_off_anyone_trusted():
    found = credentials.FileCredentials("https://node:10250/", verify=False)

    assert found.url == "https://node:10250"
    assert await found.authorization() is None
    assert found.context().verify_mode is ssl.CERT_NONE


def write_kubeconfig(
    folder: pathlib.Path, authority: certificates.Authority, **user: object
) -> str:
    pair = authority.issue("client")
    cluster = {
        "server": "https://api.example:6443",
        "certificate-authority": str(authority.root.cert),
    }
    users = {
        "token": {"token": "static"},
        "password": {"username": "me", "password": "secret"},
        "certificate": {"client-certificate": str(pair.cert), "client-key": str(pair.key)},
        "program": {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": str(folder / "program"),
                "interactiveMode": "Never",
            }
        },
    }
    clusters = {
        "plain": cluster,
        "proxied": cluster | {"proxy-url": "http://proxy:3128"},
        "named": cluster | {"tls-server-name": "kubernetes"},
    }
    contexts = {name: {"cluster": "plain", "user": name} for name in users}
    contexts |= {name: {"cluster": name, "user": "token"} for name in clusters}
    text = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "token",
        "clusters": [{"name": name, "cluster": found} for name, found in clusters.items()],
        "users": [{"name": name, "user": found} for name, found in users.items()],
        "contexts": [{"name": name, "context": found} for name, found in contexts.items()],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(text))
    return str(path)


@pytest.fixture
def config(tmp_path: pathlib.Path, authority: certificates.Authority) -> str:
    return write_kubeconfig(tmp_path, authority)


@pytest.mark.parametrize(
    ("context", "expected"),
    [(None, "Bearer static"), ("password", "Basic bWU6c2VjcmV0"), ("certificate", None)],
)
async def test_a_kubeconfig_s_user(config: str, context: str | None, expected: str | None):
    found = await kubeconfig.load(config, context)

    assert found.url == "https://api.example:6443"
    assert await found.authorization() == expected
    assert subjects(found.context()) == ["root"]


async def test_a_program_makes_a_new_token_when_the_last_one_ends(
    config: str, tmp_path: pathlib.Path
):
    program = tmp_path / "program"
    ended = '"2020-01-01T00:00:00Z"'
    program.write_text(
        f"#!/bin/sh\necho x >> {tmp_path}/count\n"
        'printf \'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": '
        f'{{"token": "%s", "expirationTimestamp": {ended}}}}}\' "$(wc -l < {tmp_path}/count)"\n'
    )
    program.chmod(0o755)

    found = await kubeconfig.load(config, "program")

    assert [await found.authorization() for _ in range(2)] == ["Bearer 2", "Bearer 3"]


async def test_the_name_that_the_certificate_must_have(config: str):
    assert (await kubeconfig.load(config, "named")).server_name == "kubernetes"


@pytest.mark.parametrize(
    ("context", "text"), [("unheard", "unheard"), ("proxied", r"proxy.* is not supported")]
)
async def test_a_context_that_cannot_be_used(config: str, context: str, text: str):
    with pytest.raises(errors.ComponentError, match=text):
        await kubeconfig.load(config, context)


async def test_a_kubeconfig_that_is_not_there(tmp_path: pathlib.Path):
    with pytest.raises(errors.ComponentError, match=r"kubeconfig .*nowhere"):
        await kubeconfig.load(str(tmp_path / "nowhere"), None)


async def test_without_the_extra_the_error_names_it(config: str, monkeypatch):
    monkeypatch.setitem(sys.modules, "kubernetes", None)

    with pytest.raises(errors.ComponentError, match=r"pip install 'otel-oom\[kubernetes\]'"):
        await kubeconfig.load(config, None)


def test_the_folder_is_where_kubelets_put_it():
    assert os.fspath(credentials.SERVICE_ACCOUNT) == "/var/run/secrets/kubernetes.io/serviceaccount"
