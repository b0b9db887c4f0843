"""A frame fits its terminal, names what is missing, and obeys nobody's names."""

import io

import pytest
from doubles.storage_views import answer, oom, row, slow, storage, times
from rich.console import Console

from otel_oom.top import frame

BUSY = [
    row("block", f"vd{letter}", "read", 100, 800, queue=times(-160, 5), device=times(-80, 5))
    for letter in "abcdefgh"
] + [row("operations", f"vd{letter}", "fsync", call=times(-56, 7)) for letter in "abcdefgh"]


def drawn(before, now, *, width=80, height=None, **options):
    """The lines of a frame on something that is no terminal."""
    out = io.StringIO()
    console = Console(file=out, width=width)
    console.print(frame.frame(before, now, height=height, **options))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def busy(**said):
    return answer(storage=storage(10)), answer(
        oom=oom(), storage=storage(12, *BUSY, slowest=[slow()] * 16, **said)
    )


def test_a_frame_has_the_host_the_losses_and_the_kills():
    last = {"age_s": 35.0, "process": "hog", "cgroup": "/batch"}
    now = answer(oom=oom(kills=2, last=last), storage=storage(12, lost=7))

    head = drawn(None, now)[:2]

    assert head == [
        "otel-oom 1.2.3 on db-7, up 3 h 12 min; lost in the kernel: oom 0, storage 7",
        "OOM kills in the last 1 h: 2, the last 35 s ago: hog in /batch",
    ]


def test_rows_have_their_rates_and_times():
    lines = drawn(*busy())

    (first,) = (line for line in lines if line.startswith("vda") and "read" in line)
    assert " ".join(first.split()) == "vda read 50.0 0.0 1.04 µs 1.04 µs 1.06 ms 1.06 ms"
    (call,) = (line for line in lines if line.startswith("vda") and "fsync" in line)
    assert " ".join(call.split()) == "vda fsync 3.5 all 8.52 ms 8.52 ms"


def test_a_call_of_which_one_in_many_is_followed_says_so():
    now = answer(storage=storage(12, row("operations", "vda", "read", call=times(-56, 7))))

    lines = [" ".join(line.split()) for line in drawn(answer(storage=storage(10)), now)]
    assert "vda read 3.5 1 in 64 8.52 ms 8.52 ms" in lines


def test_a_slow_operation_has_its_process_its_verdict_and_its_file():
    now = answer(storage=storage(12, slowest=[slow(), slow(pid=0, path="", inode=0, layer="")]))

    call, request = drawn(None, now, width=120)[-2:]

    assert "3 s  48.2 ms  fsync" in call
    assert "postgres[812]  journal" in call
    assert call.endswith("91%  /var/lib/db/wal/0001 on vda")
    assert "(request)" in request
    assert "not known" in request


@pytest.mark.parametrize(("width", "height"), [(80, 23), (80, 16), (200, 60)])
def test_a_frame_fits(width, height):
    lines = drawn(*busy(), width=width, height=height)

    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    assert "/var/lib/db" in lines[-1]
    assert lines[-1].endswith("…" if width == 80 else "0001 on vda")


def test_what_does_not_fit_is_counted():
    text = "\n".join(drawn(*busy(), height=23))

    assert "block requests over 2.0 s, by rate (4 of 8)" in text
    assert "slowest of the last 1 min (4 of 16)" in text
    assert " of " not in "".join(
        line for line in drawn(*busy()) if line.startswith(("block", "calls"))
    )


@pytest.mark.parametrize(
    ("counts", "room", "expected"),
    [
        ([8, 8, 16], 14, [4, 5, 5]),
        ([1, 2, 16], 14, [1, 2, 11]),
        ([3, 3, 3], 100, [3, 3, 3]),
        ([8, 8, 8], 0, [1, 1, 1]),
    ],
)
def test_shares(counts, room, expected):
    assert frame.shares(counts, room) == expected


def test_before_the_second_answer_there_are_no_rates():
    assert "block requests: being counted from now on" in drawn(None, busy()[1])


def test_a_tier_that_is_missing_is_said_to_be():
    lines = drawn(*busy(tiers={"block": "x"})[:1], answer(storage=storage(12, tiers={"block": ""})))

    assert "calls followed over 2.0 s, by rate: cannot be seen; `otel-oom doctor` says why" in lines


def test_an_agent_without_the_receiver_says_so():
    assert drawn(None, answer(oom=oom()))[2] == (
        "storage is not shown: the agent's pipelines have no receiver `storage`"
    )


def test_an_agent_that_is_not_ready_says_so():
    assert "NOT READY" in drawn(None, answer() | {"ready": False}, width=120)[0]


def test_names_are_neither_obeyed_nor_markup():
    evil = slow(path="/tmp/\x1b[2J[red]x\u202e\n", process="[bold]\x07")
    text = "\n".join(drawn(None, answer(storage=storage(1, slowest=[evil])), width=160))

    assert "/tmp/\\x1b[2J[red]x\\u202e\\x0a on vda" in text
    assert "[bold]\\x07[812]" in text


def test_no_colours_where_there_is_no_terminal():
    assert "\x1b" not in "\n".join(drawn(*busy()))
