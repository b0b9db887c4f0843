"""The real senders before a modelled backend: what the benchmark's table says holds in short."""

from __future__ import annotations

import dataclasses

import pytest
from doubles import modelled_backend


def results(scenario, **short):
    scenario = dataclasses.replace(scenario, **short)
    return {
        name: modelled_backend.run(policy, scenario)
        for name, policy in modelled_backend.POLICIES.items()
    }


@pytest.mark.parametrize("scenario", [modelled_backend.BUSY, modelled_backend.BUSY_ELSEWHERE])
def test_under_load_fewer_tries_time_out_and_less_work_is_wasted(scenario):
    """The gates: a fifth of what exponential retries lose, a tenth of what fixed ones do."""
    found = results(scenario, end_s=460.0, requests=400)
    ours, exponential, fixed = found["adaptive"], found["exponential"], found["fixed"]

    assert ours.delivered == ours.requests
    assert exponential.timeouts > 50, "the load is heavy enough to tell"
    assert ours.timeouts <= exponential.timeouts / 5
    assert ours.timeouts <= fixed.timeouts / 10
    assert ours.wasted_s <= exponential.wasted_s / 5
    assert ours.slowest_s < exponential.slowest_s


@pytest.mark.parametrize("scenario", [modelled_backend.REFUSING, modelled_backend.SILENT])
def test_an_outage_costs_fewer_tries_and_all_is_delivered_soon_after(scenario):
    found = results(scenario, end_s=460.0, requests=400)
    ours, exponential = found["adaptive"], found["exponential"]
    wasted = {name: result.tries - result.requests for name, result in found.items()}

    assert ours.delivered == ours.requests
    assert wasted["adaptive"] < wasted["exponential"] / 2
    assert wasted["adaptive"] < wasted["fixed"] / 5
    assert ours.late_s < exponential.late_s + 120, "a try that began in the outage has a minute"
