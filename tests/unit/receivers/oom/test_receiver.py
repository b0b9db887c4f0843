"""The receiver's options: the defaults that are promised, and what is refused with its key."""

from __future__ import annotations

import dataclasses
import mmap
from typing import Any

import pytest

from otel_oom.config.types import ByteSize, Duration
from otel_oom.receivers import oom
from otel_oom.receivers.oom.config import Config

MIB = 1024 * 1024


def problems(**options: Any) -> list[str]:
    """Paths of the options that are refused; every text names its option."""
    found = list(Config(**options).validate())
    assert all(f"`{path[0]}`" in text for path, text in found)
    return [str(path[0]) for path, _ in found]


def test_the_promised_defaults() -> None:
    """Users' configs and docs/ stand on these: change them with a note in the changelog."""
    assert dataclasses.asdict(Config()) == {
        "capture_modes": ["core", "kmsg", "counter"],
        "ring_size": MIB,
        "settle": 0.25,
        "settle_exit": 10.0,
        "reconcile_interval": 1.0,
        "collection_interval": 60.0,
        "siblings": 16,
        "command_args": True,
        "service_variables": True,
        "state_directory": "/var/lib/otel-oom",
        "root_path": "/",
    }
    assert problems() == []


@pytest.mark.parametrize(
    "size", [0, -4096, 1, mmap.PAGESIZE // 2, 3 * mmap.PAGESIZE, MIB - 1, 2**31]
)
def test_a_ring_that_the_kernel_would_not_make_is_refused(size: int) -> None:
    assert problems(ring_size=ByteSize(size)) == ["ring_size"]


@pytest.mark.parametrize("size", [mmap.PAGESIZE, MIB, 2**30])
def test_a_ring_of_a_power_of_two_pages(size: int) -> None:
    assert problems(ring_size=ByteSize(size)) == []


def test_intervals_and_counts() -> None:
    assert problems(settle=Duration(2), settle_exit=Duration(1)) == ["settle_exit"]
    assert problems(settle=Duration(2), settle_exit=Duration(2)) == []
    assert problems(reconcile_interval=Duration(0)) == ["reconcile_interval"]
    assert problems(collection_interval=Duration(0)) == ["collection_interval"]
    assert problems(siblings=-1) == ["siblings"]
    assert problems(siblings=0) == []


@pytest.mark.parametrize(
    "modes",
    [[], ["bcc"], ["core", "dmesg"], ["kmsg", "core"], ["core", "core"], ["CORE"]],
)
def test_capture_modes_that_are_none_or_not_best_first_are_refused(modes: list[str]) -> None:
    assert problems(capture_modes=modes) == ["capture_modes"]


@pytest.mark.parametrize("modes", [["core"], ["kmsg"], ["counter"], ["core", "counter"]])
def test_any_selection_of_the_capture_modes(modes: list[str]) -> None:
    assert problems(capture_modes=modes) == []


def test_every_problem_is_told_at_once() -> None:
    assert problems(ring_size=ByteSize(1), siblings=-1, reconcile_interval=Duration(0)) == [
        "ring_size",
        "reconcile_interval",
        "siblings",
    ]


def test_the_factory_offers_all_three_signals() -> None:
    assert oom.FACTORY.type_name == "oom"
    assert {signal.value for signal in oom.FACTORY.signals} == {"logs", "traces", "metrics"}
