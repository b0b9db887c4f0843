"""The victim's environment: two variables of it, and why one of them may lack."""

from __future__ import annotations

import pytest

from otel_oom.bpf.events import OomDeliveredFlag
from otel_oom.receivers.oom import variables

NAME, ATTRIBUTES = b"OTEL_SERVICE_NAME=shop\0", b"OTEL_RESOURCE_ATTRIBUTES=a=b\0"


def test_both_in_the_order_of_their_names() -> None:
    assert variables.read(NAME + ATTRIBUTES, 0) == variables.Variables(
        (("OTEL_RESOURCE_ATTRIBUTES", "a=b"), ("OTEL_SERVICE_NAME", "shop"))
    )


def test_none_is_no_reason() -> None:
    assert variables.read(b"", 0) == variables.Variables()


def test_the_first_of_two_counts_and_odd_bytes_are_kept() -> None:
    raw = b"OTEL_RESOURCE_ATTRIBUTES=a=\xff,b=c\0OTEL_RESOURCE_ATTRIBUTES=second\0"
    assert variables.read(raw, 0).found == (("OTEL_RESOURCE_ATTRIBUTES", "a=\\xff,b=c"),)


def test_no_other_is_taken_whatever_the_kernel_side_sends() -> None:
    raw = b"PASSWORD=hunter2\0" + NAME + b"XOTEL_SERVICE_NAME=x\0OTEL_SERVICE_NAMES=y\0"
    assert variables.read(raw, 0).found == (("OTEL_SERVICE_NAME", "shop"),)


@pytest.mark.parametrize("flag", OomDeliveredFlag)
def test_each_flag_is_a_reason_unless_both_were_found(flag: OomDeliveredFlag) -> None:
    reasons = {variables.read(NAME, each).reason for each in OomDeliveredFlag}
    assert len(reasons) == len(OomDeliveredFlag)
    assert variables.read(NAME, flag).reason
    assert not variables.read(NAME + ATTRIBUTES, flag).reason
