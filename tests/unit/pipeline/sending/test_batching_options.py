"""`sending_queue.batch`: its options, as a user writes them."""

from __future__ import annotations

import pytest

from otel_oom.config import expand, limits, load, problems, structure, tree
from otel_oom.pipeline.sending.queue import QueueConfig


def read(text):
    """`sending_queue` of a YAML text, with the problems that a user would be told."""
    budget = limits.Budget()
    root = expand.Expander({}, budget).expand(load.load(text.encode(), "a.yaml", budget))
    report = problems.Report(root)
    config = structure.structure(tree.plain(root), QueueConfig, (), report)
    report.check()
    return config


def test_it_is_off_by_default_and_its_defaults_are_the_collectors():
    config = read("batch: {}").batch

    assert QueueConfig().batch is None
    assert (config.flush_timeout, config.min_size, config.max_size) == (0.2, 8192, 0)
    assert read("batch: {}").batching().sizer == "items"
    assert config.partition.metadata_keys == []


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("batch: {flush_timeout: 0s}", "batch.flush_timeout", "`flush_timeout` must be greater"),
        ("batch: {min_size: -1}", "batch.min_size", "`min_size` must not be negative"),
        ("batch: {max_size: -1}", "batch.max_size", "`max_size` must not be negative"),
        (
            "batch: {max_size: 8191}",
            "batch.max_size",
            r"`max_size` \(8191\) .* `min_size` \(8192\)",
        ),
        ("batch: {sizer: requests}", "batch.sizer", "must be one of items, bytes"),
        (
            "batch: {partition: {metadata_keys: [tenant]}}",
            "batch.partition.metadata_keys",
            "`metadata_keys` is not supported",
        ),
        (
            "{sizer: items, batch: {}}",
            "batch",
            r"`min_size` \(8192\) must be at most `queue_size` \(1000\)",
        ),
        (
            "{sizer: bytes, queue_size: 9, batch: {min_size: 10}}",
            "batch.min_size",
            r"`min_size` \(10\) must be at most `queue_size` \(9\)",
        ),
        ("{wait_for_result: true, batch: {}}", "batch", "`batch` .* `wait_for_result`"),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_written(text, path, message):
    with pytest.raises(problems.InvalidConfig, match=message) as caught:
        read(text)

    assert path in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "{batch: {min_size: 5000}, queue_size: 10}",
        "{batch: {sizer: bytes}, sizer: items}",
        "{batch: {min_size: 10, max_size: 10}, sizer: items, queue_size: 10}",
        "{batch: {}, enabled: false, wait_for_result: true}",
    ],
)
def test_sizes_in_different_units_are_not_compared(text):
    assert read(text).batch is not None


def test_its_unit_is_the_queues_unless_it_says_otherwise():
    assert read("{sizer: bytes, queue_size: 10000, batch: {}}").batching().sizer == "bytes"
    assert read("{sizer: bytes, batch: {sizer: items}}").batching().sizer == "items"


def test_a_weight_may_have_its_own_number_of_consumers():
    config = read('{num_consumers_by_weight: {"10": 4, "3": 10}, max_bytes: 1MiB}')
    assert [config.consumers(weight) for weight in (10, 5, 3)] == [4, 1, 10]
    assert config.shared_calls == 10
    assert config.room().limits == {"requests": 1000, "bytes": 1 << 20}


@pytest.mark.parametrize("number", ['{"11": 1}', '{"0": 1}', '{"5": 0}', "{a: 1}"])
def test_a_number_of_consumers_for_what_is_no_weight_is_refused(number):
    with pytest.raises(problems.InvalidConfig, match="must be a weight from 1 to 10 and a number"):
        read(f"num_consumers_by_weight: {number}")
