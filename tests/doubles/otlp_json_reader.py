"""OTLP/JSON read back into messages by protobuf's own JSON parser.

That parser knows nothing of OTLP's one deviation that it cannot read: ids in hex are made
base64 first. Everything else is judged by it: names, numbers, enums, words for infinities.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from google.protobuf import json_format

_IDS = {"traceId", "spanId", "parentSpanId"}


def parse(text: bytes, kind: type[Any]) -> Any:
    """Read one JSON message; unknown names and wrong types raise."""
    return json_format.ParseDict(_with_base64_ids(json.loads(text)), kind())


def _with_base64_ids(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        name: base64.b64encode(bytes.fromhex(item)).decode()
        if name in _IDS
        else _with_base64_ids(item)
        for name, item in value.items()
    }
