"""Runs inside the VM: what its verifier walks for each program, as one line of JSON."""

import json
import os
import pathlib

from doubles import kernel_modules, verifier

system = os.uname()
kernel_modules.load_all(pathlib.Path("modules").glob("*.ko"))
print(
    json.dumps({"release": system.release, "machine": system.machine, "walked": verifier.walked()})
)
