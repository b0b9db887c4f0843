"""What all tests share: where the doubles are, what a marker needs, and the closing summary."""

from __future__ import annotations

import collections
import pathlib
import signal
import sys
import uuid
from collections.abc import Iterator

import hypothesis
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from doubles import kube_apiserver, kube_objects, real_collector, skips

import otel_oom

# How long an example takes says more of the machine than of the code.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

_NEEDS = {
    "root": skips.root,
    "storage": skips.storage,
    "go": skips.go,
    "containerd": skips.containerd,
    "image": skips.image,
    "kernels": skips.kernels,
}


# A property holds or it does not; how long an example takes is the machine's other work.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--installed",
        action="store_true",
        help="refuse to test anything but an installed wheel (`make test` does)",
    )
    parser.addoption(
        "--kernels", action="store_true", help="boot other kernels in QEMU (`make kernels` does)"
    )
    parser.addoption(
        "--chaos", action="store_true", help="the long form of tests that have one (`make chaos`)"
    )
    parser.addoption(
        "--write-figures",
        action="store_true",
        help="make what the verifier walks here the figures of bpf/verified.json",
    )
    parser.addoption(
        "--kills", type=int, default=50, help="kills of a test under churn (`make chaos`: 1000)"
    )


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts what it does not wait for so, and children would be deaf to Ctrl-C, too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    source = pathlib.Path(otel_oom.__file__)
    if config.getoption("--installed") and "site-packages" not in source.parts:
        raise pytest.UsageError(f"otel_oom is {source}, not the installed wheel: use `make test`")


def pytest_report_header() -> str:
    return f"otel_oom {otel_oom.__version__} from {pathlib.Path(otel_oom.__file__).parent}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine cannot do, with the sentence that says how it could."""
    for marker, reason in _NEEDS.items():
        if item.get_closest_marker(marker) is None:
            continue
        if marker == "kernels" and not item.config.getoption("--kernels"):
            pytest.skip("boots other kernels, which takes minutes: run `make kernels`")
        if sentence := reason():
            pytest.skip(sentence)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """List what was skipped, a line a reason, for the reader who wants it run."""
    counts = collections.Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.getreports("skipped")
        if isinstance(report.longrepr, tuple)
    )
    if counts:
        terminalreporter.section("not run on this machine")
    for sentence, count in counts.items():
        terminalreporter.write_line(f"{count} test{'s' * (count > 1)}: {sentence}")


@pytest.fixture(scope="session")
def is_long(pytestconfig: pytest.Config) -> bool:
    """Whether a test runs in its long form."""
    return bool(pytestconfig.getoption("--chaos"))


@pytest.fixture(scope="session")
def collector_binary() -> pathlib.Path:
    """The real collector, built once and cached between runs (mark the test with `go`)."""
    if sentence := skips.go():
        pytest.skip(sentence)
    try:
        return real_collector.build()
    except real_collector.BuildFailed as error:
        pytest.skip(f"needs the collector's Go modules, which did not come: {error}; check GOPROXY")


@pytest.fixture
def collector(
    collector_binary: pathlib.Path, tmp_path: pathlib.Path
) -> Iterator[real_collector.Collector]:
    """A real collector that listens on loopback and writes what it gets to a file."""
    with real_collector.running(collector_binary, tmp_path) as peer:
        yield peer


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[kube_apiserver.ApiServer]:
    """A real API server for all tests, each of which keeps to a namespace (mark it with `go`)."""
    _build_kubernetes("etcd", "kube-apiserver")
    with kube_apiserver.running(tmp_path_factory.mktemp("kube-apiserver")) as server:
        yield server


@pytest.fixture(scope="session")
def kubernetes_binaries() -> None:
    """What a node and its control plane need is built (mark the test with `go`)."""
    _build_kubernetes("etcd", "kube-apiserver", "kubelet")


def _build_kubernetes(*names: str) -> None:
    if sentence := skips.go():
        pytest.skip(sentence)
    try:
        for name in names:
            kube_apiserver.build(name)
    except kube_apiserver.BuildFailed as error:
        pytest.skip(f"needs Kubernetes' Go modules, which did not come: {error}; check GOPROXY")


@pytest.fixture
def namespace(api_server: kube_apiserver.ApiServer) -> Iterator[str]:
    """A namespace of this test's own; what is in it goes with no controller's help."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    api_server.apply(kube_objects.namespace(name))
    yield name
    api_server.request("DELETE", f"/api/v1/namespaces/{name}/pods?gracePeriodSeconds=0")
