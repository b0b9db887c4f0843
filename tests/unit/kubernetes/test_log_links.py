"""Names by the links that a kubelet makes; that it makes them so, the end-to-end tests show."""

from __future__ import annotations

import pathlib

import pytest

from otel_oom.kubernetes import log_links
from otel_oom.kubernetes.log_links import Link

ID = "a" * 64
TARGET = "/var/log/pods/shop_web-0_1111-2222/app/3.log"


def test_a_container_is_found_by_the_end_of_the_links_name(tmp_path: pathlib.Path) -> None:
    (tmp_path / f"web-0_shop_app-{'b' * 64}.log").symlink_to("/var/log/pods/other_o_0/o/0.log")
    (tmp_path / f"web-0_shop_app-{ID}.log").symlink_to(TARGET)

    assert log_links.find(ID, str(tmp_path)) == Link("shop", "web-0", "1111-2222", "app", 3)


def test_nothing_is_found_where_nothing_is(tmp_path: pathlib.Path) -> None:
    (tmp_path / f"no-link-{ID}.log").write_text("")

    assert log_links.find("c" * 64, str(tmp_path)) is None
    assert log_links.find(ID, str(tmp_path)) is None
    assert log_links.find(ID, str(tmp_path / "not there")) is None


@pytest.mark.parametrize(
    "target",
    [
        "",
        "0.log",
        "app/0.log",
        "/var/log/pods/shop_web-0/app/0.log",
        "/var/log/pods/shop_web_0_uid/app/0.log",
        "/var/log/pods/shop_web-0_uid/app/x.log",
        "/var/log/pods/shop_web-0_uid//0.log",
        "/var/lib/docker/containers/aa/aa-json.log",
    ],
)
def test_what_is_no_kubelets_tells_nothing(target: str) -> None:
    assert log_links.read(target) is None
