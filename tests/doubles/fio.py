"""Runs fio, and reads what it says it did.

    report = fio.run(filename=device.path, rw="randread", direct=1, iodepth=32, runtime="2s")
    report.requests("read")

Needs `fio` (Debian package fio).
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from typing import Any

_DEFAULTS = {"name": "load", "ioengine": "libaio", "bs": "4k", "randseed": "1"}


class Report:
    """The JSON of one job. `raw` is all of it."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw

    def requests(self, direction: str) -> int:
        """I/Os that fio issued: `read`, `write`, `trim` or `sync`."""
        return int(self.raw[direction]["total_ios"])

    def bytes(self, direction: str) -> int:
        """What they carried: `read`, `write` or `trim`."""
        return int(self.raw[direction]["io_bytes"])

    def per_second(self, direction: str) -> float:
        """I/Os a second."""
        return float(self.raw[direction]["iops"])

    @property
    def cpu_percent(self) -> float:
        """Of one processor, what fio itself took in user and system time."""
        return float(self.raw["usr_cpu"]) + float(self.raw["sys_cpu"])


def run(**options: object) -> Report:
    """One job with these options of fio (`bs`, `rw`, `iodepth`, ...). Raises if it fails.

    An option with a value of True is given without a value; a runtime makes it time-based.
    """
    wanted = {**_DEFAULTS, **options}
    if "runtime" in wanted:
        wanted["time_based"] = True
    flags = [f"--{key}" if value is True else f"--{key}={value}" for key, value in wanted.items()]
    with tempfile.NamedTemporaryFile("r") as told:
        command = ["fio", *flags, "--output-format=json", f"--output={told.name}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        text = told.read()
    # Warnings may stand before the JSON.
    return Report(json.loads(text[text.index("{") :])["jobs"][0])
