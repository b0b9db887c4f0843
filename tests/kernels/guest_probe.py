"""Runs inside the VM: which of our programs this kernel takes, told as one line of JSON."""

import json

from otel_oom.bpf import probe

attached = probe.attach(probe.kernel(), 1 << 20)
print(json.dumps({"decision_hook": attached.decision_hook, "left_out": attached.left_out}))
