"""Loop devices for the tests of the programs."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator

import pytest
from doubles import block_tier, loop_device


@pytest.fixture
def loop(tmp_path: pathlib.Path) -> Iterator[loop_device.LoopDevice]:
    if sentence := loop_device.unavailable():
        pytest.skip(sentence)
    with loop_device.attached(tmp_path) as attached:
        block_tier.settle()
        yield attached
