"""Fixtures that several of these files use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from doubles import memory_cgroup

MIB = 1024 * 1024


@pytest.fixture
def group() -> Iterator[memory_cgroup.MemoryCgroup]:
    """A memory cgroup of 32 MiB (mark the test with `root`)."""
    with memory_cgroup.temporary(32 * MIB) as made:
        yield made
