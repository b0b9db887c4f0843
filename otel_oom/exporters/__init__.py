"""OTLP to the outside."""
