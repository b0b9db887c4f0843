"""OTLP's forms: attribute values, JSON, a server's answers, the standard environment."""

from otel_oom.pipeline.otlp.values import (
    Value,
    any_value,
    attributes,
    key_value,
    key_values,
    python_value,
)

__all__ = ["Value", "any_value", "attributes", "key_value", "key_values", "python_value"]
