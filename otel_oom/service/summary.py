"""The accounting in words: a line for each signal, and whether its sum closes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from otel_oom.pipeline.accounting import Balance, Ledger
from otel_oom.pipeline.data import Signal


def lines(ledger: Ledger, signals: Iterable[Signal]) -> Iterator[str]:
    """Yield `logs: produced 3 + copied 3 = delivered 6 + ... + held 0: closed`, each signal."""
    for signal in signals:
        yield f"{signal.value}: {_sum(ledger.balance(signal))}"


def closes(ledger: Ledger) -> bool:
    """Whether every item of every signal is accounted for."""
    return all(ledger.balance(signal).difference == 0 for signal in Signal)


def _sum(balance: Balance) -> str:
    verdict = f"OFF BY {balance.difference}" if balance.difference else "closed"
    return (
        f"produced {balance.produced} + {_recovered(balance)}copied {balance.copied} = "
        f"delivered {balance.delivered} + rejected {balance.rejected} + "
        f"dropped {_dropped(balance.dropped)} + held {balance.held}: {verdict}"
    )


def _recovered(balance: Balance) -> str:
    return f"recovered {balance.recovered} + " if balance.recovered else ""


def _dropped(by_reason: dict[str, int]) -> str:
    reasons = ", ".join(f"{reason} {items}" for reason, items in sorted(by_reason.items()))
    return f"{sum(by_reason.values())}" + (f" ({reasons})" if reasons else "")
