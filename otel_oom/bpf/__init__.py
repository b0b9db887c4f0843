"""Loads, attaches and decodes the kernel side. Only receivers import it."""
