"""The layer that delayed an operation, where it is known: one layer is slowed, and no other."""

from __future__ import annotations

import pytest
from doubles import storage_injections, storage_verdicts

pytestmark = [pytest.mark.storage, pytest.mark.root]

COUNT = 16


@pytest.mark.parametrize("name", storage_verdicts.SCORED)
def test_the_verdict_is_the_layer_that_was_slowed(name: str) -> None:
    found = storage_verdicts.of(name, COUNT)

    layer = storage_injections.ALL[name].layer
    assert sum(found.values()) >= COUNT // 4, f"the injection delayed almost nothing: {found}"
    assert found.get(layer, 0) >= 0.7 * sum(found.values()), f"want {layer}: {found}"
