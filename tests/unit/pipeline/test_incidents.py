"""What befell a cgroup is found by those it concerns, at the time it did."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_oom.pipeline.incidents import Incident, Incidents


def incident(cgroup: str = "/pod/a", start_ns: int = 100, end_ns: int = 200, number: int = 1):
    return Incident(cgroup, start_ns, end_ns, b"t" * 16, number.to_bytes(8, "big"), "oom.kill")


def noted(*found: Incident, most: int = 256) -> Incidents:
    incidents = Incidents(most)
    for each in found:
        incidents.note(each)
    return incidents


@pytest.mark.parametrize(
    ("of", "asked", "is_found"),
    [
        ("/pod/a", "/pod/a", True),
        ("/pod/a", "/pod/a/b/c", True),
        ("/pod/a", "/pod", False),
        ("/pod/a", "/pod/ab", False),
        ("/pod/a", "/", False),
        ("/", "/", True),
        ("/", "/pod/a", True),
    ],
)
def test_it_concerns_the_cgroup_and_all_below(of: str, asked: str, *, is_found: bool) -> None:
    assert bool(noted(incident(of)).overlapping(asked, 0, 1000)) == is_found


@pytest.mark.parametrize(
    ("start_ns", "end_ns", "is_found"),
    [(0, 99, False), (0, 100, True), (120, 130, True), (200, 300, True), (201, 300, False)],
)
def test_times_overlap_at_their_ends_too(start_ns: int, end_ns: int, *, is_found: bool) -> None:
    assert bool(noted(incident()).overlapping("/pod/a", start_ns, end_ns)) == is_found


def test_what_is_noted_again_takes_the_place_of_what_was() -> None:
    incidents = noted(incident(end_ns=10_000), incident(end_ns=200))

    assert incidents.overlapping("/pod/a", 0, 1000) == [incident(end_ns=200)]
    assert incidents.overlapping("/pod/a", 201, 1000) == []
    incidents.note(incident("/pod/b"))
    assert incidents.overlapping("/pod/a", 0, 1000) == []
    assert incidents.overlapping("/pod/b", 0, 1000) == [incident("/pod/b")]


def test_before_anything_was_noted_nothing_is_found() -> None:
    assert list(Incidents().overlapping("/", 0, 2**64)) == []


def test_the_oldest_makes_room() -> None:
    found = [incident(f"/pod/{number}", number=number) for number in range(5)]
    incidents = noted(*found, most=3)

    told = [number for number in range(5) if incidents.overlapping(f"/pod/{number}", 0, 1000)]
    assert told == [2, 3, 4]
    assert incidents._by_cgroup.keys() == {"/pod/2", "/pod/3", "/pod/4"}


NAMES = st.sampled_from(["/", "/a", "/a/b", "/a/bc", "/a/b/c", "/d"])
TIMES = st.integers(0, 20)


@given(st.lists(st.tuples(NAMES, TIMES, TIMES, st.integers(0, 6)), max_size=30), NAMES, TIMES)
def test_what_is_found_is_what_a_plain_search_finds(
    notes: list[tuple[str, int, int, int]], asked: str, at_ns: int
) -> None:
    incidents, plain = Incidents(4), {}
    for cgroup, start_ns, length_ns, number in notes:
        made = incident(cgroup, start_ns, start_ns + length_ns, number)
        incidents.note(made)
        if plain.get(number, made).cgroup != cgroup:
            del plain[number]
        plain[number] = made
        if len(plain) > 4:
            del plain[next(iter(plain))]

    expected = {
        one
        for one in plain.values()
        if one.start_ns <= at_ns + 3 and at_ns <= one.end_ns
        if asked == one.cgroup or asked.startswith(one.cgroup.rstrip("/") + "/")
    }
    assert set(incidents.overlapping(asked, at_ns, at_ns + 3)) == expected
