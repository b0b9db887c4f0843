"""HTTP/1.1 as the agent speaks it: to backends, to an API server, to a kubelet."""
