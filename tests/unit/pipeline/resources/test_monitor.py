"""The cached idleness: when it is read, how it moves, and what it says when it cannot be read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_oom.pipeline.resources import monitor, pressure


class Host:
    """A host whose load a test sets; it is also the clock."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.load = 0.0
        self.lacks = ""
        self.error: OSError | None = None
        self.readings = 0

    def read(self, now_s: float) -> pressure.Pressure:
        self.readings += 1
        if self.error:
            raise self.error
        return pressure.Pressure(self.load, 0.0, 0.0)

    def missing(self) -> str:
        return self.lacks


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def watched(host):
    return monitor.Monitor(host, lambda: host.now_s)


def test_a_reading_is_used_until_it_is_old(host, watched):
    for _ in range(100):
        host.now_s += 0.01
        watched.idleness()

    assert host.readings == 4


def test_nothing_is_read_while_nobody_asks(host, watched):
    host.now_s = 1000.0

    assert host.readings == 0


def test_load_is_believed_at_once_and_its_end_when_it_has_lasted(host, watched):
    for load in [0.0] * 40 + [0.8] * 4:
        host.load = load
        host.now_s += 0.25
        under_load = watched.idleness()
    host.load = 0.0
    for _ in range(4):
        host.now_s += 0.25
        a_second_after = watched.idleness()
    host.now_s += 60
    later = watched.idleness()

    assert under_load < 0.65
    assert a_second_after < 0.97
    assert later == pytest.approx(1, abs=0.02)


def test_averages_do_not_depend_on_how_often_someone_asks(host):
    answers = []
    for step_s in (0.25, 1.0):
        host.now_s, host.load = 0.0, 0.0
        watched = monitor.Monitor(host, lambda: host.now_s)
        watched.idleness()
        host.load = 0.6
        while host.now_s < 2:
            host.now_s += step_s
            watched.idleness()
        answers.append(watched.idleness())

    assert answers[0] == pytest.approx(answers[1])


def test_a_host_that_cannot_be_read_counts_as_busy_and_it_is_said_once(host, watched, caplog):
    watched.idleness()
    host.error = OSError(5, "Input/output error")
    host.now_s = 1.0
    young = watched.idleness()
    host.now_s = 5.0
    old = watched.idleness()

    assert (young, old) == (1.0, monitor.UNKNOWN)
    assert [one.message for one in caplog.records].count(caplog.records[0].message) == 1
    assert "it counts as busy" in caplog.text


def test_one_that_could_never_be_read_counts_as_busy(host, watched):
    host.error = OSError(2, "No such file or directory")

    assert watched.idleness() == monitor.UNKNOWN


def test_what_is_missing_is_said_once(host, watched, caplog):
    host.lacks = "/proc/pressure/io: gone: estimated"
    for _ in range(10):
        host.now_s += 1
        watched.idleness()

    assert caplog.text.count("/proc/pressure/io") == 1


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 1)), max_size=50))
def test_it_is_never_outside_its_bounds(steps):
    host = Host()
    watched = monitor.Monitor(host, lambda: host.now_s)
    for passed_s, load in steps:
        host.now_s += passed_s
        host.load = load
        assert monitor.LEAST <= watched.idleness() <= 1
