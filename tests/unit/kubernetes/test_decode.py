"""Lists and events of an API server, good and bad."""

import contextlib
import json

import pytest
from doubles import kube_json
from hypothesis import given
from hypothesis import strategies as st

from otel_oom import errors
from otel_oom.kubernetes import status
from otel_oom.kubernetes.decode import Change, Decoder
from otel_oom.kubernetes.objects import Partial, Pod
from otel_oom.kubernetes.source import Kind
from otel_oom.kubernetes.trim import Trim


def pods(**options) -> Decoder:
    return Decoder(Kind.POD, Trim(**options))


def test_a_page_has_its_pods_its_version_and_the_way_to_the_next():
    page = pods().page(kube_json.listed([kube_json.pod(1, restarts=1)], version=7, more="n"))

    assert (page.resource_version, page.continue_token, page.undecodable) == ("7", "n", 0)
    (pod,) = page.objects
    assert isinstance(pod, Pod)
    assert pod.metadata.owner_references[0].kind == "ReplicaSet"
    assert pod.spec.containers[0].resources.limits == {"memory": "512Mi"}
    (container,) = pod.status.container_statuses
    assert container.restart_count == 1
    assert container.last_state.terminated.reason == "OOMKilled"
    assert container.container_id != container.last_state.terminated.container_id


def test_an_event_without_a_version_is_none():
    line = kube_json.event("BOOKMARK", {"metadata": {}})

    with pytest.raises(errors.KubernetesError, match="it has no version"):
        pods().event(line)


def test_what_is_shared_is_bounded():
    """Texts that come once, as versions of images do, are not kept for ever."""
    shared = Trim()
    decoder = Decoder(Kind.NODE, shared)
    for number in range(20_000):
        found = kube_json.partial("Node", "n")
        found["metadata"]["labels"] = {"version": f"v{number}"}
        decoder.page(kube_json.listed([found]))

    assert len(shared._shared) < 10_000


def test_a_list_of_nothing_is_null_in_go():
    assert pods().page(kube_json.listed(None)).objects == []


def test_all_kinds_but_pods_are_metadata():
    page = Decoder(Kind.NODE, Trim()).page(kube_json.listed([kube_json.partial("Node", "n")]))

    assert [one.metadata.name for one in page.objects] == ["n"]
    assert isinstance(page.objects[0], Partial)


def test_an_object_that_is_not_as_described_does_not_hide_the_others():
    odd = kube_json.pod(1) | {"spec": {"containers": "none"}}
    no_text = kube_json.pod(1) | {"metadata": {"name": "~"}}
    body = kube_json.listed([kube_json.pod(0), odd, no_text, kube_json.pod(2)])

    page = pods().page(body.replace(b"~", b"\xff"))

    assert [one.spec.node_name for one in page.objects] == ["node-0", "node-2"]
    assert page.undecodable == 2


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"items": [', b'{"items": 1}', b"[]"])
def test_what_is_no_list_is_an_error_that_shows_it(body):
    with pytest.raises(errors.KubernetesError, match="this is not a list in JSON") as raised:
        pods().page(body)
    assert raised.value.reason == "garbage"
    assert repr(body) in str(raised.value)


@pytest.mark.parametrize("change", ["ADDED", "MODIFIED", "DELETED"])
def test_an_event_has_its_object(change):
    found = pods().event(kube_json.event(change, kube_json.pod(3, version=9)))

    assert found.change is Change(change)
    assert found.resource_version == "9"
    assert found.found.spec.node_name == "node-3"


def test_a_bookmark_has_a_version_only():
    found = pods().event(kube_json.bookmark(12))

    assert (found.change, found.found, found.resource_version) == (Change.BOOKMARK, None, "12")


def test_an_event_of_an_odd_object_still_has_its_version():
    odd = kube_json.pod(1, version=5) | {"status": "odd"}

    found = pods().event(kube_json.event("MODIFIED", odd))

    assert (found.found, found.resource_version) == (None, "5")


def test_an_error_within_a_watch_is_raised_with_its_reason():
    line = kube_json.event("ERROR", kube_json.status(410, "Expired", "too old"))

    with pytest.raises(errors.KubernetesError, match="410 Expired too old") as raised:
        pods().event(line)
    assert raised.value.reason == "gone"


@pytest.mark.parametrize(
    "line", [b"", b"garbage", b"{}", b'{"type": "NEW", "object": {}}', b'{"type": "ADDED", "object": 1}',
             b'{"type": "ADDED", "object": {"metadata": {"name": "\xff"}}}']
)  # fmt: skip
def test_what_is_no_event_is_an_error(line):
    with pytest.raises(errors.KubernetesError, match="this is not an event in JSON"):
        pods().event(line)


@given(
    st.binary()
    | st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["type", "object", "items", "metadata", "spec", "status"]), inner
            )
        ),
    ).map(lambda value: json.dumps(value).encode())
)
def test_any_bytes_are_an_answer_or_an_error(body):
    for read in (pods().page, pods().event):
        with contextlib.suppress(errors.KubernetesError):
            read(body)
    assert str(status.failed(status.read(body, 500))).isprintable()


def test_equal_texts_are_one_and_the_copy_by_kubectl_is_dropped():
    one, other = pods().page(kube_json.listed([kube_json.pod(0), kube_json.pod(840)])).objects

    assert one.spec.containers[0].image is other.spec.containers[0].image
    assert one.metadata.labels["team"] == "team-0"
    assert one.metadata.namespace is other.metadata.namespace
    assert set(one.metadata.annotations) == {"checksum/config"}


def test_only_the_annotations_that_are_wanted_are_kept():
    (found,) = (
        pods(keep_annotation=lambda key: key == "a")
        .page(kube_json.listed([kube_json.pod(0)]))
        .objects
    )

    assert found.metadata.annotations is None


def test_plain_text_is_an_error_s_message_on_one_line():
    found = status.failed(status.read(b"Forbidden\n(user=x)\x1b[31m", 403), delay_s=3)

    assert str(found) == "403 Forbidden (user=x) [31m"
    assert (found.reason, found.delay_s) == ("forbidden", 3)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (401, "unauthorized"),
        (404, "not_found"),
        (429, "throttled"),
        (500, "server_error"),
        (503, "server_error"),
        (400, "refused"),
    ],
)
def test_words_for_the_counter(code, reason):
    assert status.failed(status.read(b"", code)).reason == reason
