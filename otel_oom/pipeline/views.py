"""Views: what a component shows of itself to a person who looks, made when it is asked for.

A receiver offers a view without knowing who shows it; an extension shows all views without
knowing whose they are. While nobody asks, nothing is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

View = Mapping[str, Any]
"""What JSON can hold. `view` says which kind it is, as `storage`."""


class Views:
    """The views of the whole agent, by the id of the component that offers each."""

    def __init__(self) -> None:
        self._makers: dict[str, Callable[[], View]] = {}

    def offer(self, name: str, make: Callable[[], View]) -> None:
        """Show what `make` returns, until it is withdrawn."""
        self._makers[name] = make

    def withdraw(self, name: str) -> None:
        """Show it no longer; no error if it was not offered."""
        self._makers.pop(name, None)

    def made(self) -> dict[str, View]:
        """Make all of them."""
        return {name: make() for name, make in self._makers.items()}
