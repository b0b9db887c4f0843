"""OTLP in, OTLP out."""
