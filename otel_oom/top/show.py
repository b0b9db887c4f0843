"""Asks again and again, and draws: once, or until Ctrl-C."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from otel_oom.top import agent, frame


def once(endpoint: str, interval_s: float, sort: str) -> None:
    """Print what happens within one interval; `agent.NoAnswer` says why not."""
    before = agent.ask(endpoint)
    time.sleep(interval_s)
    Console(highlight=False).print(frame.frame(before, agent.ask(endpoint), sort=sort))


def until_stopped(endpoint: str, interval_s: float, sort: str) -> None:
    """Draw over and over on the terminal's other screen, which goes away with Ctrl-C.

    An agent that stops answering is asked on: it may come again.
    """
    console = Console(highlight=False)
    before, now = None, agent.ask(endpoint)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            drawn = frame.frame(before, now, sort=sort, height=console.height - 1)
            live.update(drawn, refresh=True)
            time.sleep(interval_s)
            try:
                before, now = now, agent.ask(endpoint)
            except agent.NoAnswer as error:
                live.update(_stale(drawn, error), refresh=True)


def _stale(drawn: RenderableType, error: agent.NoAnswer) -> Group:
    return Group(Text(str(error), style="bold red"), drawn)
