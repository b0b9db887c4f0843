"""The status board: readiness, and one log line per change."""

import logging

from otel_oom.pipeline.accounting import Ledger
from otel_oom.pipeline.component import State, Status
from otel_oom.pipeline.data import Signal
from otel_oom.service import summary
from otel_oom.service.board import StatusBoard


def test_a_component_that_reported_something_while_it_started_is_not_called_ok():
    board = StatusBoard()
    board.report("a", Status(State.STARTING))
    board.report("b", Status(State.STARTING))
    board.report("b", Status(State.RECOVERABLE_ERROR, "the backend is down"))
    board.started("a")
    board.started("b")

    assert [status.state for status in board.statuses().values()] == [
        State.OK,
        State.RECOVERABLE_ERROR,
    ]


def test_only_a_change_of_state_is_logged_at_the_level_of_what_happened(caplog):
    caplog.set_level(logging.INFO)
    board = StatusBoard()
    for status in (
        Status(State.OK),
        Status(State.RECOVERABLE_ERROR, "down"),
        Status(State.RECOVERABLE_ERROR, "still down"),
        Status(State.OK),
        Status(State.PERMANENT_ERROR, "gone"),
    ):
        board.report("exporters/x", status)

    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "exporters/x: StatusOK"),
        ("WARNING", "exporters/x: StatusRecoverableError: down"),
        ("INFO", "exporters/x: StatusOK"),
        ("ERROR", "exporters/x: StatusPermanentError: gone"),
    ]


def test_a_fatal_error_is_an_event_that_others_can_wait_for():
    board = StatusBoard()
    board.report("a", Status(State.OK))
    assert not board.fatal.is_set()
    board.report("a", Status(State.FATAL_ERROR))

    assert board.fatal.is_set()


def test_the_summary_shows_the_sum_and_its_verdict():
    ledger = Ledger()
    ledger.produced("oom", Signal.LOGS, 5)
    ledger.copied(Signal.LOGS, 5)
    ledger.delivered("debug", Signal.LOGS, 6)
    ledger.rejected("otlp", Signal.LOGS, 1)
    ledger.dropped("otlp", Signal.LOGS, 1, "queue_full")
    ledger.dropped("batch", Signal.LOGS, 1, "shutdown")
    ledger.hold("batch", lambda signal: signal is Signal.LOGS)

    assert list(summary.lines(ledger, [Signal.LOGS, Signal.TRACES])) == [
        "logs: produced 5 + copied 5 = delivered 6 + rejected 1 + dropped 2 (queue_full 1, shutdown 1) + held 1: closed",
        "traces: produced 0 + copied 0 = delivered 0 + rejected 0 + dropped 0 + held 0: closed",
    ]
    assert summary.closes(ledger)


def test_a_sum_that_does_not_close_says_by_how_much():
    ledger = Ledger()
    ledger.produced("oom", Signal.TRACES, 3)
    ledger.delivered("debug", Signal.TRACES, 1)

    (line,) = summary.lines(ledger, [Signal.TRACES])

    assert line.endswith("held 0: OFF BY 2")
    assert not summary.closes(ledger)
