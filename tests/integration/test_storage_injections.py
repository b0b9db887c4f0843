"""Each injection slows what it says: by the kernel's own trace, and nothing else beside it."""

from __future__ import annotations

import statistics

import pytest
from doubles import show_injections, storage_injections

pytestmark = [pytest.mark.storage, pytest.mark.root]

COUNT = 9
CAUSES = ("throttle", "tag", "queue", "dirty", "reclaim", "wakeup", "running")
"""Kinds of time that exclude each other; device time and commits may hold one another."""
SLOWED = [name for name, injection in storage_injections.ALL.items() if injection.layer]


def shares_of(name: str) -> dict[str, float]:
    """Medians over some operations; a machine without what it takes is a reason to skip."""
    try:
        truth, done = show_injections.watched(storage_injections.ALL[name], COUNT)
    except storage_injections.Unavailable as error:
        pytest.skip(str(error))
    except FileNotFoundError as error:
        pytest.skip(f"needs a kernel that has {error.filename}: a newer one, or its scheduler")
    every = [truth.shares(operation) for operation in done]
    return {kind: statistics.median(one[kind] for one in every) for kind in every[0]}


@pytest.mark.parametrize("name", SLOWED)
def test_the_time_goes_where_the_injection_says(name: str) -> None:
    truth = storage_injections.ALL[name].truth
    shares = shares_of(name)
    assert shares[truth] > 0.5, shares
    assert [kind for kind in CAUSES if kind != truth and shares[kind] >= 0.4] == []


def test_a_device_that_is_slow_below_the_journal_is_the_journals_time_too() -> None:
    shares = shares_of("device_flush_in_journal")
    assert shares["commit"] > 0.5
    assert shares["device"] > 0.5


def test_a_commit_that_waits_for_a_handle_has_no_device_time() -> None:
    shares = shares_of("journal_locked")
    assert shares["device"] < 0.5
