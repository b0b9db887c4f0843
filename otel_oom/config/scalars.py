"""What a plain YAML scalar means: the core schema of YAML 1.2 (specification, section 10.3.2).

`yes`, `no`, `on` and `off` are strings, `0o17` is octal and `017` is seventeen, and there are
no dates and no base-sixty numbers.
"""

from __future__ import annotations

import re

from otel_oom.config import tree

_NULL = re.compile(r"|~|null|Null|NULL")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INF = re.compile(r"[-+]?\.(inf|Inf|INF)")
_NAN = re.compile(r"\.(nan|NaN|NAN)")
_CORE = "tag:yaml.org,2002:"

MAX_NUMBER_CHARS = 64
_MIN_INT, _MAX_INT = -(1 << 63), (1 << 64) - 1


def resolve(text: str) -> tree.Scalar:
    """The value of a plain scalar; `ValueError` when it is an integer of more than 64 bits."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return _integer(text)
    number = _number(text)
    return text if number is None else number


def resolve_tagged(tag: str, text: str) -> tree.Scalar:
    """The value of a scalar with one of YAML's own tags, e.g. `!!str`.

    `ValueError` for any other tag, and for a text that its tag does not fit.
    """
    if tag in {"!", _CORE + "str"}:
        return text
    kinds = {"null": type(None), "bool": bool, "int": int, "float": float}
    kind = kinds.get(tag.removeprefix(_CORE)) if tag.startswith(_CORE) else None
    if kind is None:
        raise ValueError("tags are not supported; delete the tag, or quote the value")
    value = resolve(text)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"the value does not fit its tag `!!{tag.removeprefix(_CORE)}`")
    return value


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise ValueError("the integer does not fit 64 bits; quote it if it is a text")
    value = int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    if not _MIN_INT <= value <= _MAX_INT:
        raise ValueError("the integer does not fit 64 bits; quote it if it is a text")
    return value


def _number(text: str) -> float | None:
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INF.fullmatch(text):
        return float("-inf" if text.startswith("-") else "inf")
    return float("nan") if _NAN.fullmatch(text) else None
