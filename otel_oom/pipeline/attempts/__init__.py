"""Trying what may fail: how long a try may take, and how many tries there are; of anything."""
