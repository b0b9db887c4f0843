"""Loop devices for the tests of the programs."""

from __future__ import annotations

import pathlib
from collections.abc import Generator, Iterator

import pytest
from doubles import block_tier, loop_device, unseen


@pytest.fixture
def loop(tmp_path: pathlib.Path) -> Iterator[loop_device.LoopDevice]:
    if sentence := loop_device.unavailable():
        pytest.skip(sentence)
    with loop_device.attached(tmp_path) as attached:
        block_tier.settle()
        yield attached


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Once more, if requests are missing that this machine's kernel may have shown to nobody."""
    device = getattr(item, "funcargs", {}).get("loop")
    if device is None:
        return (yield)
    with unseen.completions(device.device) as hidden:
        try:
            return (yield)
        except AssertionError as error:
            failed = error
    if not hidden.count:
        raise failed
    item.runtest()
    return None
