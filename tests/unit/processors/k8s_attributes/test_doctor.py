"""What `otel-oom doctor` says: whom the processor would ask, and whether that answers."""

from __future__ import annotations

import pytest
from doubles import cluster_source as objects
from doubles import enriching

from otel_oom import errors
from otel_oom.processors.k8s_attributes import doctor, sources


def asked(monkeypatch, made, **options):
    async def make(*_):
        if isinstance(made, Exception):
            raise made
        return made

    monkeypatch.setattr(sources, "make", make)
    return {check.name: check for check in doctor.checks(enriching.config(**options))}


def test_a_source_that_answers(monkeypatch):
    found = asked(monkeypatch, objects.Objects(objects.pod()))
    assert found["source"].ok
    assert found["pods"].ok
    assert found["pods"].detail == "objects of a test; 1 pods"


def test_without_a_cluster_nothing_required_is_missing(monkeypatch):
    found = asked(monkeypatch, None)
    assert list(found) == ["source"]
    assert not found["source"].ok
    assert not found["source"].required


def test_what_keeps_it_from_asking_is_told(monkeypatch):
    found = asked(monkeypatch, errors.ComponentError("no such file"))
    assert not found["source"].ok
    assert found["source"].required
    assert found["source"].detail == "no such file"


@pytest.mark.parametrize("failure", [None, RuntimeError("broken")])
def test_a_source_that_does_not_answer(monkeypatch, failure):
    monkeypatch.setattr(doctor, "_PATIENCE_S", 0.2)
    source = objects.Objects(synced=False)
    source.failure = failure
    found = asked(monkeypatch, source)
    assert not found["pods"].ok
    assert found["pods"].required
    assert source.running == 0
