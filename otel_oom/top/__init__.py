"""`otel-oom top`: asks the running agent over its health endpoint, and shows what it answers.

It attaches nothing to the kernel itself and needs no rights: the agent has counted already.
"""
