"""The victim's environment: two variables of it, and no byte of the rest."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

from otel_oom.receivers.oom import variables


def of(tmp_path: pathlib.Path, raw: bytes) -> variables.Variables:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/environ").write_bytes(raw)
    return variables.read(str(tmp_path), 7)


def test_only_what_is_allowed_is_kept(tmp_path: pathlib.Path) -> None:
    raw = b"PASSWORD=hunter2\0OTEL_SERVICE_NAME=shop\0XOTEL_SERVICE_NAME=x\0OTEL_SERVICE_NAMES=y\0"
    found = of(tmp_path, raw)
    assert found == variables.Variables((("OTEL_SERVICE_NAME", "shop"),))


def test_the_first_of_two_counts_and_odd_bytes_are_kept(tmp_path: pathlib.Path) -> None:
    raw = b"OTEL_RESOURCE_ATTRIBUTES=a=\xff,b=c\0OTEL_RESOURCE_ATTRIBUTES=second\0"
    found = of(tmp_path, raw)
    assert found.found == (("OTEL_RESOURCE_ATTRIBUTES", "a=\\xff,b=c"),)


def test_an_environment_longer_than_a_read(tmp_path: pathlib.Path) -> None:
    raw = b"A=" + b"x" * 300_000 + b"\0OTEL_SERVICE_NAME=late\0"
    assert of(tmp_path, raw).found == (("OTEL_SERVICE_NAME", "late"),)


def test_who_is_gone_is_the_reason(tmp_path: pathlib.Path) -> None:
    assert "gone" in variables.read(str(tmp_path), 7).reason
    assert "gone" in of(tmp_path, b"").reason


def test_a_real_process() -> None:
    env = dict(os.environ) | {"OTEL_SERVICE_NAME": "real", "SECRET": "s"}
    code = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        assert child.stdin
        child.stdout.readline()  # it has been executed
        found = variables.read("/proc", child.pid)
        child.stdin.close()
    assert ("OTEL_SERVICE_NAME", "real") in found.found
    assert not any("SECRET" in name for name, _ in found.found)
