"""How urgent a batch is: a weight from 1 to 10, which its pipeline gives it.

What waits is served by weight, and what finds no room goes lowest weight first.
"""

from __future__ import annotations

LEAST, MOST = 1, 10

CRITICAL = 10
"""The class that is on the disk before it counts as accepted, and that room is reserved for."""

DEFAULT = 5

METRICS = 3
"""What a metric says the next one says again; what is lost is only how it came about."""
