"""The attributes of a kill that are promised."""

ATTRIBUTES = """
process.pid process.vpid process.parent_pid process.executable.name process.command_args
process.creation.time process.user.id process.linux.cgroup process.exit.code
oom.exit.confirmed oom.exit.latency oom.constraint
oom.victim.memory.anon oom.victim.memory.file oom.victim.memory.shmem oom.victim.memory.swap
oom.victim.memory.page_tables oom.victim.memory.virtual oom.victim.score_adj oom.victim.score
oom.trigger.process.pid oom.trigger.process.executable.name oom.trigger.cgroup
oom.trigger.is_victim oom.limit.cgroup oom.limit.bytes oom.limit.usage oom.limit.peak
oom.cgroup.usage oom.cgroup.limit oom.cgroup.memory.anon oom.cgroup.memory.file
oom.cgroup.memory.shmem oom.cgroup.memory.slab oom.cgroup.memory.kernel_stack
oom.cgroup.memory.page_tables oom.allocation.order oom.allocation.gfp_flags
oom.group oom.episode.id oom.episode.role oom.episode.kills oom.cgroup.kill_count
oom.processes oom.capture.mode
oom.psi.some.avg10 oom.psi.full.avg10 linux.psi.memory.some.avg10 linux.psi.memory.full.avg10
"""
"""What users' queries stand on: each is on the record, or `oom.missing` says why not."""
