"""From a config to a running graph of components."""
