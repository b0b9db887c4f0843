"""The kernel side's bucket function, compiled for this machine, against exact arithmetic."""

from __future__ import annotations

import ctypes
import pathlib
import shutil
import subprocess
from collections.abc import Callable

import pytest
from doubles import exponential
from hypothesis import given
from hypothesis import strategies as st

HEADER = pathlib.Path(__file__).parents[3] / "bpf" / "include" / "exponential.h"
SOURCE = """
#include <linux/types.h>
#include "{header}"
__u32 bucket(__u64 ns) {{ return exponential_bucket(ns); }}
__u64 shortest(void) {{ return EXPONENTIAL_SHORTEST_NS; }}
__u64 longest(void) {{ return EXPONENTIAL_LONGEST_NS; }}
"""

Bucket = Callable[[int], int]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler = shutil.which("cc") or shutil.which("clang")
    if compiler is None or not HEADER.exists():
        pytest.skip("needs a C compiler and bpf/ of the checkout: apt-get install clang")
    folder = tmp_path_factory.mktemp("exponential")
    (folder / "bucket.c").write_text(SOURCE.format(header=HEADER))
    built = folder / "bucket.so"
    command = [compiler, "-O2", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", built, folder / "bucket.c"], check=True)
    loaded = ctypes.CDLL(str(built))
    loaded.bucket.argtypes, loaded.bucket.restype = [ctypes.c_uint64], ctypes.c_uint32
    loaded.shortest.restype = loaded.longest.restype = ctypes.c_uint64
    return loaded


def agrees(library: ctypes.CDLL, ns: int) -> bool:
    expected = exponential.bucket(ns)
    return expected is not None and library.bucket(ns) + exponential.FIRST == expected


def test_its_range_is_that_of_the_buckets(library: ctypes.CDLL) -> None:
    assert library.shortest() == exponential.boundary_ns(exponential.FIRST)
    assert library.longest() == exponential.boundary_ns(exponential.LAST + 1) == 1024 * 10**9
    assert library.bucket(library.shortest() + 1) == 0
    assert library.bucket(library.longest()) == 255


def test_each_boundary_is_in_the_bucket_below_it(library: ctypes.CDLL) -> None:
    """The last nanosecond of each bucket, and the first of the next."""
    for index in range(exponential.FIRST + 1, exponential.LAST + 1):
        last = exponential.boundary_ns(index)
        assert library.bucket(last) + exponential.FIRST == index - 1
        assert library.bucket(last + 1) + exponential.FIRST == index


def test_each_power_of_two_and_its_neighbours(library: ctypes.CDLL) -> None:
    for power in range(8, 40):
        for ns in (2**power - 1, 2**power, 2**power + 1):
            assert agrees(library, ns), ns


@given(ns=st.integers(239, 1024 * 10**9))
def test_any_time(library: ctypes.CDLL, ns: int) -> None:
    assert agrees(library, ns)


@given(octave=st.integers(8, 39), part=st.floats(0, 1))
def test_any_time_at_any_scale(library: ctypes.CDLL, octave: int, part: float) -> None:
    assert agrees(library, min(max(239, int(2 ** (octave + part))), 1024 * 10**9))
