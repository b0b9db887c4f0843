"""Kernel records become OTLP here, once."""
