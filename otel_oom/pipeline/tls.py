"""The `tls` block of clients, with the collector's names (config/configtls).

Files are read when a connection is made, so that a renewed certificate is used without a
restart. A file that is missing or wrong is an error that names it and its key: falling back to
other roots or to no certificate would connect to whom nobody asked for.
"""

from __future__ import annotations

import dataclasses
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from otel_oom import errors
from otel_oom.config.types import Secret

Version = Literal["1.2", "1.3"]

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

_SYSTEM_ROOTS = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where the distributions keep their roots: Debian, Fedora and RHEL, older RHEL, SUSE, Alpine."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TlsConfig:
    """`tls`, with the collector's names and defaults: TLS is on unless the endpoint says http."""

    insecure: bool | None = None
    """Connect without TLS, default false; an endpoint's `http://` or `https://` decides first."""

    insecure_skip_verify: bool = False
    """Accept any server certificate, default false; for tests only, and not with gRPC."""

    ca_file: str | None = None
    """PEM file of the roots to trust; without it (and `ca_pem`) the system's roots."""

    ca_pem: str | None = None
    """The same as text in place of a file."""

    include_system_ca_certs_pool: bool = False
    """Trust the system's roots beside `ca_file` or `ca_pem`, default false."""

    cert_file: str | None = None
    """PEM file of the client's certificate and its chain, for mTLS; needs a key."""

    cert_pem: str | None = None
    """The same as text in place of a file."""

    key_file: str | None = None
    """PEM file of the client's key, not encrypted; needs a certificate."""

    key_pem: Secret | None = None
    """The same as text in place of a file."""

    server_name_override: str | None = None
    """Name that the server's certificate must have, in place of the endpoint's host."""

    min_version: Version = "1.2"
    """Oldest TLS version accepted: 1.2 (default) or 1.3; gRPC cannot have it raised."""

    max_version: Version | None = None
    """Newest TLS version offered, default the newest there is; gRPC cannot have it lowered."""

    def __post_init__(self) -> None:
        """Refuse combinations that cannot mean anything."""
        for one, other in (("ca_file", "ca_pem"), ("cert_file", "cert_pem"),
                           ("key_file", "key_pem")):  # fmt: skip
            if getattr(self, one) and getattr(self, other):
                raise ValueError(f"'{one}' and '{other}' exclude each other; keep one")
        if bool(self.cert_file or self.cert_pem) != bool(self.key_file or self.key_pem):
            raise ValueError("a client certificate needs both 'cert_file' and 'key_file'")
        if self.max_version and self.max_version < self.min_version:
            raise ValueError("'max_version' must not be lower than 'min_version'")


@dataclasses.dataclass(frozen=True, slots=True)
class Material:
    """PEM texts as they are now; None where the config names none."""

    roots: bytes | None
    certificate: bytes | None
    key: bytes | None


def material(config: TlsConfig) -> Material:
    """Read what the config names, or raise `errors.ComponentError` naming file and key."""
    return Material(
        roots=_pem(config, "ca"), certificate=_pem(config, "cert"), key=_pem(config, "key")
    )


def stamp(config: TlsConfig) -> tuple[tuple[int, int, int] | None, ...]:
    """Identity of the files as they are now; it changes when one is replaced or rewritten."""
    return tuple(_stamp(path) for path in (config.ca_file, config.cert_file, config.key_file))


class Reloading:
    """A TLS context that follows its files."""

    def __init__(self, config: TlsConfig) -> None:
        self._config = config
        self._stamp = stamp(config)
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """The context of the files as they are now, or `errors.ComponentError`."""
        now = stamp(self._config)
        if self._context is None or now != self._stamp:
            self._context = client_context(self._config, material(self._config))
            self._stamp = now
        return self._context


def client_context(config: TlsConfig, found: Material) -> ssl.SSLContext:
    """Build the context for a connection; raises `errors.ComponentError` naming what is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = _VERSIONS[config.min_version]
    if config.max_version:
        context.maximum_version = _VERSIONS[config.max_version]
    if config.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    _load_roots(context, config, found)
    _load_certificate(context, config, found)
    return context


def system_roots() -> bytes | None:
    """The system's roots as PEM, or None where no known bundle exists (then gRPC's own)."""
    candidates = (os.environ.get("SSL_CERT_FILE"), *_SYSTEM_ROOTS)
    for path in candidates:
        if path and Path(path).is_file():
            return Path(path).read_bytes()
    return None


def grpc_problems(config: TlsConfig) -> Iterator[str]:
    """What gRPC's Python library cannot do, with what to do instead."""
    if config.insecure_skip_verify:
        yield (
            "'tls.insecure_skip_verify' is not possible with gRPC in Python: give the server's "
            "certificate as 'tls.ca_file' and its name as 'tls.server_name_override', or use "
            "otlp_http"
        )
    if config.min_version != "1.2" or config.max_version:
        yield (
            "'tls.min_version' and 'tls.max_version' cannot be set with gRPC in Python (it "
            "speaks TLS 1.2 and 1.3): remove them, or use otlp_http"
        )


def _pem(config: TlsConfig, what: str) -> bytes | None:
    text, path = getattr(config, f"{what}_pem"), getattr(config, f"{what}_file")
    if text:
        return str.encode(text)
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as failure:
        raise errors.ComponentError(
            f"tls.{what}_file {path}: {failure.strerror}; give a PEM file that this user can read"
        ) from failure


def _load_roots(context: ssl.SSLContext, config: TlsConfig, found: Material) -> None:
    if found.roots is None or config.include_system_ca_certs_pool:
        context.load_default_certs()
    if found.roots is None:
        return
    try:
        context.load_verify_locations(cadata=found.roots.decode("ascii", "replace"))
    except ssl.SSLError as failure:
        raise errors.ComponentError(
            f"tls.ca_{_source(config.ca_file)} holds no certificate in PEM form ({failure.reason})"
        ) from failure


def _load_certificate(context: ssl.SSLContext, config: TlsConfig, found: Material) -> None:
    """Load by way of a file in memory, because `ssl` takes certificate and key from files only."""
    if found.certificate is None or found.key is None:
        return
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(found.key + b"\n" + found.certificate)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_refuse_password)
    except (ssl.SSLError, OSError) as failure:
        raise errors.ComponentError(
            f"tls.cert_{_source(config.cert_file)} and tls.key_{_source(config.key_file)} are no "
            f"PEM certificate with its key ({getattr(failure, 'reason', None) or failure})"
        ) from failure
    finally:
        os.close(descriptor)


def _refuse_password() -> str:
    raise errors.ComponentError("the tls key is encrypted; give a key without a pass phrase")


def _source(path: str | None) -> str:
    return f"file {path}" if path else "pem"


def _stamp(path: str | None) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path) if path else None  # noqa: PTH116  # no Path per request
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if found else None
