"""What travels from the process that reads a configuration to the one that runs it."""

import functools
import io
import pickle

import pytest

import otel_oom
from otel_oom import errors
from otel_oom.service import config as configs
from otel_oom.service import handover
from otel_oom.service.registry import Registry

ENV = {"ONE": "1", "TOKEN": "secret-token"}
ALL = """
receivers: {oom: {state_directory: "/nowhere/${env:ONE}"}}
processors:
  batch:
  resource:
    attributes:
      - {key: a, value: "${env:ONE}", action: upsert}
      - key: b
        value: ${env:ONE}
        action: upsert
  memory_limiter: {limit_mib: 1000}
exporters:
  debug:
  file: {path: /nowhere/out.jsonl}
  otlp_grpc: {endpoint: "http://127.0.0.1:9", headers: {authorization: "${env:TOKEN}"}}
  otlp_http: {endpoint: "http://127.0.0.1:9"}
extensions: {health_check: {endpoint: "127.0.0.1:0"}}
service:
  extensions: [health_check]
  pipelines:
    logs/all:
      receivers: [oom]
      processors: [memory_limiter, resource, batch]
      exporters: [debug, file, otlp_grpc, otlp_http]
"""


@pytest.fixture
def known():
    return Registry()


@pytest.fixture
def handed(known):
    """Hands over what a text is read to, and takes it."""

    def over(text):
        pipe = io.BytesIO()
        load = functools.partial(configs.load, ["yaml:" + text], env=ENV, known=known)
        handover._write(pipe, load, known, quiet=True)
        pipe.seek(0)
        return handover._received(pipe)

    return over


def test_a_config_of_every_component_comes_as_it_was_read(handed, known):
    found = handed(ALL)

    assert not isinstance(found, str), found
    assert found.quiet
    assert found.config == configs.load(["yaml:" + ALL], env=ENV, known=known)
    for section in (found.config.receivers, found.config.exporters):
        for id_, (factory, _) in section.items():
            assert factory is known.factory(factory.kind, id_.type)


def test_a_secret_still_hides_itself(handed):
    found = handed(ALL)

    assert "secret-token" not in repr(found.config)


def test_warnings_come_too(handed, known):
    text = ALL.replace("extensions: [health_check]", "extensions: []")

    assert [str(one) for one in handed(text).config.warnings] == [
        str(one) for one in configs.load(["yaml:" + text], env=ENV, known=known).warnings
    ]


def test_problems_come_as_their_text(handed, known):
    text = ALL.replace("limit_mib", "limt_mib")
    with pytest.raises(errors.ConfigError) as raised:
        configs.load(["yaml:" + text], env=ENV, known=known)

    assert handed(text) == str(raised.value)


def test_what_another_version_read_is_not_taken():
    pipe = io.BytesIO(pickle.dumps("0.0.0") + b"whatever it has")

    assert "restart the agent" in handover._received(pipe)


def test_a_component_that_is_gone_is_a_problem():
    class Gone(pickle.Pickler):
        def persistent_id(self, thing):
            return "otel_oom.exporters.gone:FACTORY" if thing == "gone" else None

    pipe = io.BytesIO()
    pickle.dump(otel_oom.__version__, pipe)
    Gone(pipe).dump("gone")
    pipe.seek(0)

    assert "otel_oom.exporters.gone" in handover._received(pipe)


def test_nothing_is_none():
    assert handover._received(io.BytesIO()) is None
