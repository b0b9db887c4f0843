"""Kubernetes' quantities, images and rules of labels: text to values, exactly."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_oom.processors.k8s_attributes import images, quantity, rules
from otel_oom.processors.k8s_attributes.config import Field


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("256Mi", 256 << 20),
        ("1Gi", 1 << 30),
        ("1.5Gi", 3 << 29),
        ("0.1Gi", 107374183),  # rounded up
        ("128974848", 128974848),
        ("129e6", 129_000_000),
        ("129E6", 129_000_000),
        ("129M", 129_000_000),
        ("123k", 123_000),
        ("100m", 1),
        ("1Ei", 1 << 60),
        ("5E", 5 * 10**18),
        (".5Ki", 512),
        ("+1Ki", 1024),
        (1073741824, 1 << 30),
    ],
)
def test_bytes(text, expected):
    assert quantity.whole(text) == expected


@pytest.mark.parametrize(
    "text", ["", "1ki", "1 Gi", "Mi", "1.2.3", "0x10", "1e", "nan", None, True]
)
def test_what_is_no_quantity_is_none(text):
    assert quantity.whole(text) is None
    assert quantity.number(text) is None


@pytest.mark.parametrize(("text", "expected"), [("100m", 0.1), ("2", 2.0), ("250u", 0.00025)])
def test_cpus(text, expected):
    assert quantity.number(text) == expected


@given(st.integers(0, 10**9), st.sampled_from(["Ki", "Mi", "Gi", "Ti"]))
def test_a_binary_suffix_multiplies_exactly(number, suffix):
    power = ["Ki", "Mi", "Gi", "Ti"].index(suffix) + 1
    assert quantity.exact(f"{number}{suffix}") == Fraction(number) * 1024**power


DIGEST = "sha256:" + "0f" * 32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("busybox", images.Image("busybox")),
        ("busybox:1.36", images.Image("busybox", "1.36")),
        ("registry.example:5000/a/b", images.Image("registry.example:5000/a/b")),
        ("registry.example:5000/a/b:v1", images.Image("registry.example:5000/a/b", "v1")),
        (f"a/b@{DIGEST}", images.Image("a/b", "", DIGEST)),
        (f"a/b:v2@{DIGEST}", images.Image("a/b", "v2", DIGEST)),
        ("[::1]:5000/a:b", images.Image("[::1]:5000/a", "b")),
        ("UPPER", images.Image()),
        ("a b", images.Image()),
        ("", images.Image()),
    ],
)
def test_an_image_in_its_parts(text, expected):
    assert images.parse(text) == expected


@pytest.mark.parametrize(
    ("image", "version"),
    [("a:1", "1"), (f"a:1@{DIGEST}", f"1@{DIGEST}"), (f"a@{DIGEST}", DIGEST), ("a", "")],
)
def test_the_version_of_a_service_by_its_image(image, version):
    assert images.parse(image).version == version


@pytest.mark.parametrize(
    ("image_id", "expected"),
    [
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"team/app@{DIGEST}", f"docker.io/team/app@{DIGEST}"),
        (f"docker.io/library/busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}"),
        (f"docker-pullable://quay.io/a/b@{DIGEST}", f"quay.io/a/b@{DIGEST}"),
        (f"localhost/a@{DIGEST}", f"localhost/a@{DIGEST}"),
        (DIGEST, ""),
        ("", ""),
    ],
)
def test_the_digest_in_a_repository(image_id, expected):
    assert images.repo_digest(image_id) == expected


LABELS = {"app.kubernetes.io/name": "shop", "app.kubernetes.io/part": "", "team": "blue"}


@pytest.mark.parametrize(
    ("field", "what", "expected"),
    [
        (Field(key="team"), "label", {"k8s.pod.label.team": "blue"}),
        (Field(key="team", tag_name="t"), "label", {"t": "blue"}),
        (Field(key="none"), "label", {}),
        (Field(key="team", from_="node"), "annotation", {"k8s.node.annotation.team": "blue"}),
        (Field(key="team", from_="job"), "annotation", {"k8s.job.annotation.team": "blue"}),
        (Field(key_regex="te.m"), "label", {"k8s.pod.label.team": "blue"}),
        (Field(key_regex="te"), "label", {}),  # the whole key
        (
            Field(key_regex=r"app\.kubernetes\.io/(.*)", tag_name="app.$1"),
            "label",
            {"app.name": "shop"},
        ),
        (Field(key_regex=r"(?<w>te)am", tag_name="${w}$$$w"), "label", {"te$te": "blue"}),
        (Field(key_regex=r"(te)am", tag_name="a$1x-$1"), "label", {"a-te": "blue"}),
        (Field(key_regex="team", tag_name="t"), "label", {"k8s.pod.label.team": "blue"}),
    ],
)
def test_labels_and_annotations_by_rule(field, what, expected):
    assert dict(rules.rule(field, what)(LABELS)) == expected


def test_annotations_of_opentelemetry():
    found = {"resource.opentelemetry.io/service.name": "s", "resource.opentelemetry.io/": "x"}
    assert dict(rules.otel_annotations(found)) == {"service.name": "s"}


@pytest.mark.parametrize("expression", ["[", "(?P<a", "[[:alpha:]]+", r"\pL"])
def test_what_cannot_be_read_as_go_reads_it_is_told(expression):
    assert expression in rules.problem(expression)
