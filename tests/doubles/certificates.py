"""Certificates made by the openssl command line, for tests of TLS and mTLS."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import ssl
import subprocess

import pytest


@dataclasses.dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM files."""

    cert: pathlib.Path
    key: pathlib.Path

    def texts(self) -> tuple[bytes, bytes]:
        """Key and certificate as gRPC's server wants them."""
        return self.key.read_bytes(), self.cert.read_bytes()


class Authority:
    """A root that issues certificates into a directory of its own."""

    def __init__(self, directory: pathlib.Path, name: str = "root") -> None:
        if not shutil.which("openssl"):
            pytest.skip("needs the openssl command to make certificates: apt-get install openssl")
        self._directory = directory / name
        self._directory.mkdir()
        self.root = self._pair("root")
        _openssl("req", "-x509", *_new_key(self.root), "-subj", f"/CN={name}", "-days", "2",
                 "-addext", "basicConstraints=critical,CA:true", "-out", self.root.cert)  # fmt: skip

    def issue(self, name: str, *, host: str = "localhost", days: int = 1) -> Pair:
        """Issue a certificate for `host`, for servers and clients; `days` below 0: expired."""
        pair, request = self._pair(name), self._directory / f"{name}.csr"
        extensions = self._directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName=DNS:{host}\n")
        _openssl("req", "-new", *_new_key(pair), "-subj", f"/CN={name}", "-out", request)
        _openssl("x509", "-req", "-in", request, "-CA", self.root.cert, "-CAkey", self.root.key,
                 "-days", str(days), "-extfile", extensions, "-out", pair.cert)  # fmt: skip
        return pair

    def server_context(self, pair: Pair, *, mtls: bool = False) -> ssl.SSLContext:
        """What an asyncio server needs."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.cert, pair.key)
        if mtls:
            context.load_verify_locations(self.root.cert)
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _pair(self, name: str) -> Pair:
        return Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")


def _new_key(pair: Pair) -> list[str]:
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    return [*curve, "-nodes", "-keyout", str(pair.key)]


def _openssl(*arguments: object) -> None:
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, f"{command}: {done.stderr}"
