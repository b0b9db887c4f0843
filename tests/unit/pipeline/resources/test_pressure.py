"""Pressure from a /proc of files, with and without pressure stall information; and this host's."""

from __future__ import annotations

import os
import pathlib

import pytest

from otel_oom.pipeline.resources import pressure

PSI = "some avg10={avg10} avg60=0.00 avg300=0.00 total={total}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
CPUS = os.cpu_count() or 1


class Proc:
    """A /proc that says what a test writes."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.write("loadavg", "0.00 0.00 0.00 1/100 1234\n")
        self.memory(available=900)
        self.ticks(iowait=0, idle=100)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)

    def memory(self, available: int) -> None:
        self.write("meminfo", f"MemTotal: 1000 kB\nMemFree: 10 kB\nMemAvailable: {available} kB\n")

    def ticks(self, *, iowait: int, idle: int) -> None:
        self.write("stat", f"cpu  10 0 10 {idle} {iowait} 0 0 0 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")

    def stall(self, name: str, *, avg10: float = 0.0, total: int = 0) -> None:
        self.write(f"pressure/{name}", PSI.format(avg10=avg10, total=total))

    def calm(self) -> None:
        for name in ("cpu", "io", "memory"):
            self.stall(name)


@pytest.fixture
def proc(tmp_path):
    return Proc(tmp_path)


def test_a_host_on_which_nothing_waits_is_idle(proc):
    proc.calm()
    reader = pressure.Reader(str(proc.folder))

    assert reader.read(0.0) == pressure.Pressure(0, 0, 0)
    assert reader.read(0.0).idle == 1
    assert reader.missing() == ""


@pytest.mark.parametrize("name", ["cpu", "io", "memory"])
def test_the_kernels_average_is_the_first_reading(proc, name):
    proc.calm()
    proc.stall(name, avg10=40.0)

    assert getattr(pressure.Reader(str(proc.folder)).read(0.0), name) == pytest.approx(0.4)


def test_what_stalled_since_the_last_reading_counts_before_the_average_knows(proc):
    proc.calm()
    reader = pressure.Reader(str(proc.folder))
    reader.read(10.0)
    proc.stall("io", avg10=1.0, total=450_000)

    assert reader.read(10.5).io == pytest.approx(0.9)


def test_more_runnable_tasks_than_processors_are_pressure_with_or_without_psi(proc):
    proc.write("loadavg", f"9.00 9.00 9.00 {4 * CPUS}/100 1234\n")

    assert pressure.Reader(str(proc.folder)).read(0.0).cpu == pytest.approx(0.75)


def test_memory_is_short_below_a_tenth(proc):
    reader = pressure.Reader(str(proc.folder))
    shares = []
    for available in (900, 100, 50, 0):
        proc.memory(available)
        shares.append(reader.read(0.0).memory)

    assert shares == pytest.approx([0, 0, 0.5, 1])


def test_without_psi_the_time_in_iowait_is_pressure_and_it_is_said(proc):
    reader = pressure.Reader(str(proc.folder))
    reader.read(0.0)
    proc.ticks(iowait=30, idle=170)

    assert reader.read(1.0).io == pytest.approx(0.3)
    assert "pressure/io: No such file or directory: I/O pressure is estimated" in reader.missing()


def test_a_file_of_psi_that_says_nothing_is_named(proc):
    proc.calm()
    proc.write("pressure/cpu", "")
    reader = pressure.Reader(str(proc.folder))
    reader.read(0.0)

    assert "pressure/cpu: no averages in it" in reader.missing()


def test_this_host_has_a_pressure():
    found = pressure.Reader().read(0.0)

    assert all(0 <= share <= 1 for share in (found.cpu, found.io, found.memory))
