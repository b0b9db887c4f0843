"""The receiver's options: the defaults that are promised, and what is refused with its key."""

from __future__ import annotations

import dataclasses
import json
import mmap
import pickle
from typing import Any

import pytest

from otel_oom.config import problems as config_problems
from otel_oom.config.types import ByteSize, Duration
from otel_oom.receivers import storage
from otel_oom.receivers.storage.config import OPERATIONS, Config, Filter
from otel_oom.service import config as configs

MIB = 1024 * 1024


def problems(**options: Any) -> list[str]:
    """Paths of the options that are refused; every text names its option."""
    found = list(Config(**options).validate())
    assert all(f"`{path[0]}`" in text for path, text in found)
    return [".".join(map(str, path)) for path, _ in found]


def told(**options: Any) -> str:
    """What the loader says of a whole configuration with these options."""
    tree = {
        "receivers": {"storage": options},
        "exporters": {"debug": None},
        "service": {"pipelines": {"logs": {"receivers": ["storage"], "exporters": ["debug"]}}},
    }
    try:
        configs.load([f"yaml:{json.dumps(tree)}"], env={})
    except config_problems.InvalidConfig as error:
        return str(error)
    return ""


def test_the_promised_defaults() -> None:
    """Users' configs and docs/ stand on these: change them with a note in the changelog."""
    assert dataclasses.asdict(Config()) == {
        "thresholds": {"stage": 0.01, "total": 0.02},
        "collection_interval": 10.0,
        "operations": list(OPERATIONS),
        "devices": ["*"],
        "filter": {"process": [], "cgroup": [], "path": []},
        "sample": {"read": 64, "write": 64, "open": 64},
        "max_series": 512,
        "include_stacked": False,
        "ring_size": MIB,
        "root_path": "/",
    }
    assert problems() == []


@pytest.mark.parametrize("size", [0, -4096, mmap.PAGESIZE // 2, 3 * mmap.PAGESIZE, 2**31])
def test_a_ring_that_the_kernel_would_not_make_is_refused(size: int) -> None:
    assert problems(ring_size=ByteSize(size)) == ["ring_size"]


@pytest.mark.parametrize("number", [0, -1, 65537])
def test_series_have_bounds(number: int) -> None:
    assert problems(max_series=number) == ["max_series"]
    assert problems(max_series=1) == problems(max_series=65536) == []


def test_lists_that_would_leave_out_everything_are_refused() -> None:
    assert problems(operations=[]) == ["operations"]
    assert problems(devices=[]) == ["devices"]
    assert problems(devices=["vda", ""]) == ["devices"]
    assert problems(collection_interval=Duration(0)) == ["collection_interval"]
    assert [path for path, _ in Filter(cgroup=["/a", ""]).validate()] == [("cgroup", 1)]


def test_what_is_not_sampled_explicitly_keeps_its_default() -> None:
    config = Config(sample={"read": 8, "fsync": 10})
    assert problems(sample=config.sample) == []
    assert [config.sampled(of) for of in ("read", "write", "fsync", "flush")] == [8, 64, 10, 1]


@pytest.mark.parametrize(
    ("sample", "submit"),
    [({}, 64), ({"read": 1}, 1), ({"read": 48}, 16), ({"submit": 7, "read": 1}, 7)],
)
def test_submissions_are_sampled_so_that_reads_and_writes_can_be(
    sample: dict[str, int], submit: int
) -> None:
    assert Config(sample=sample).sampled("submit") == submit


@pytest.mark.parametrize("sample", [{"fsink": 1}, {"read": 0}, {"write": -3}, {"read": 2**32}])
def test_a_sample_that_cannot_be_is_refused(sample: dict[str, int]) -> None:
    assert problems(sample=sample) == [f"sample.{next(iter(sample))}"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"thresholds": {"stage": "-5ms"}},
            "receivers.storage.thresholds.stage: `-5ms` is negative",
        ),
        ({"thresholds": {"totel": "5ms"}}, "did you mean `total`?"),
        ({"operations": ["reed"]}, "did you mean `read`?"),
        ({"devices": "vda"}, "receivers.storage.devices: must be a list"),
        ({"filter": {"cgroup": [""]}}, "receivers.storage.filter.cgroup[0]: `cgroup` must not"),
        ({"sample": {"read": "often"}}, "receivers.storage.sample.read: must be an integer"),
        ({"max_series": 1.5}, "receivers.storage.max_series: must be an integer"),
    ],
)
def test_the_loader_names_the_place_and_the_remedy(options: dict[str, Any], said: str) -> None:
    assert said in told(**options)


def test_a_threshold_that_is_written_keeps_the_other() -> None:
    assert told(thresholds={"stage": "1ms"}) == ""
    assert told(thresholds={"stage": 0, "total": 0}) == ""  # everything is slow


def test_the_options_travel_between_processes() -> None:
    config = Config(sample={"read": 1}, devices=["sd*"])
    assert pickle.loads(pickle.dumps(config)) == config


def test_the_factory_offers_all_three_signals() -> None:
    assert storage.FACTORY.type_name == "storage"
    assert {signal.value for signal in storage.FACTORY.signals} == {"logs", "traces", "metrics"}
