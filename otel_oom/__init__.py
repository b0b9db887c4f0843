"""OpenTelemetry agent that tells why the kernel killed a process and why storage was slow.

The public face is the command `otel-oom` (`otel_oom.cli`) and the contracts in
`otel_oom.pipeline` for components that live in other packages.
"""

__version__ = "0.1.0"
