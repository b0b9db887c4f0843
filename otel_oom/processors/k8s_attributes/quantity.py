"""Kubernetes' quantities (`256Mi`, `100m`, `1e3`) as exact numbers.

The grammar is that of apimachinery's resource.Quantity: a decimal number and a binary suffix, a
decimal one, or an exponent.
"""

from __future__ import annotations

import functools
import re
from decimal import Decimal
from fractions import Fraction

_MOST_KEPT = 1024
_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))"
    r"(?:(?P<suffix>Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E)|[eE](?P<exponent>[+-]?[0-9]{1,3}))?",
    re.ASCII,
)
_SUFFIXES = {
    "": Fraction(1),
    **{name: Fraction(1000) ** power for power, name in enumerate("kMGTPE", 1)},
    **{name: Fraction(1, 1000**power) for power, name in enumerate("mun", 1)},
    **{f"{name}i": Fraction(1024) ** power for power, name in enumerate("KMGTPE", 1)},
}


@functools.lru_cache(_MOST_KEPT)
def exact(text: str) -> Fraction:
    """The quantity; `ValueError` if it is none."""
    found = _QUANTITY.fullmatch(text)
    if not found:
        raise ValueError(f"{text!r} is no quantity")
    number = Fraction(Decimal(found["number"]))
    if found["exponent"]:
        return number * Fraction(10) ** int(found["exponent"])
    return number * _SUFFIXES[found["suffix"] or ""]


def whole(value: object) -> int | None:
    """A number of bytes, rounded up as the kubelet does; None if it cannot be read."""
    found = _exact(value)
    return None if found is None else -(-found.numerator // found.denominator)


def number(value: object) -> float | None:
    """A number of CPUs; None if it cannot be read."""
    found = _exact(value)
    return None if found is None else float(found)


def _exact(value: object) -> Fraction | None:
    """JSON may have a quantity as a number, too."""
    if value is None or isinstance(value, bool):
        return None
    try:
        return exact(str(value))
    except ValueError:
        return None
