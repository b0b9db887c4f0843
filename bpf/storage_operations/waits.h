/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* A task leaves the CPU and gets it back: its waits, of which the longest are kept. */
#ifndef OTEL_OOM_STORAGE_OPERATIONS_WAITS_H
#define OTEL_OOM_STORAGE_OPERATIONS_WAITS_H

/* ext4: the transaction with the file's last change, which fsync then waits for. */
static __always_inline __u32 ext4_transaction(const struct slot *slot)
{
	const struct ext4_inode_info *info;

	if (slot->operation.file.magic != EXT4_SUPER_MAGIC || !slot->inode)
		return 0;
	if (!bpf_core_type_exists(struct ext4_inode_info))
		return 0;
	info = (void *)(slot->inode - bpf_core_field_offset(struct ext4_inode_info, vfs_inode));
	if (slot->operation.call == STORAGE_CALL_FDATASYNC)
		return BPF_CORE_READ(info, i_datasync_tid);
	return BPF_CORE_READ(info, i_sync_tid);
}

static __always_inline bool is_sync(__u32 call)
{
	return call == STORAGE_CALL_FSYNC || call == STORAGE_CALL_FDATASYNC;
}

static __always_inline void start_wait(struct slot *slot, const struct task_struct *task,
				       bool is_preempted, __u64 now)
{
	const struct task_struct___storage *storage = (const void *)task;
	struct storage_wait *wait = &slot->wait;

	__builtin_memset(wait, 0, sizeof(*wait));
	wait->queue_ns = slot->last_bio_ns;
	if (is_preempted)
		wait->cause = STORAGE_CAUSE_PREEMPTED;
	if (BPF_CORE_READ_BITFIELD_PROBED(storage, in_iowait))
		wait->flags |= STORAGE_WAIT_IO;
	if (slot->is_forcing_log)
		wait->flags |= STORAGE_WAIT_LOG;
	if (slot->last_bio_ns > slot->last_getrq_ns)
		wait->flags |= STORAGE_WAIT_QUEUED;
	if (is_sync(slot->operation.call))
		slot->operation.transaction = ext4_transaction(slot);
	wait->sleep_ns = now;
}

/* Keeps the wait in place of the shortest, if that is shorter. */
static __always_inline void keep_wait(struct storage_operation *operation,
				      const struct storage_wait *wait, __u64 length)
{
	__u64 shortest = length;
	int i, place = -1;

	NO_UNROLL
	for (i = 0; i < STORAGE_WAITS; i++) {
		__u64 kept = operation->wait[i].run_ns - operation->wait[i].sleep_ns;

		if (kept < shortest) {
			shortest = kept;
			place = i;
		}
	}
	if (place >= 0 && place < STORAGE_WAITS)
		bpf_probe_read_kernel(&operation->wait[place], sizeof(*wait), wait);
}

static __always_inline void end_wait(struct slot *slot, __u64 now)
{
	struct storage_operation *operation = &slot->operation;
	struct storage_wait *wait = &slot->wait;
	__u32 cause = wait->cause;

	wait->run_ns = now;
	operation->waits++;
	if (cause < STORAGE_CAUSES)
		operation->waited_ns[cause] += now - wait->sleep_ns;
	if (cause == STORAGE_CAUSE_PREEMPTED)
		operation->runnable_ns += now - wait->sleep_ns;
	else if (wait->waking_ns)
		operation->runnable_ns += now - wait->waking_ns;
	keep_wait(operation, wait, now - wait->sleep_ns);
	wait->sleep_ns = 0;
	slot->is_throttled = 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct slot *slot;

	if (!active)
		return 0;
	slot = active_slot(prev->pid);
	if (slot)
		start_wait(slot, prev, preempt, bpf_ktime_get_ns());
	slot = active_slot(next->pid);
	if (slot && slot->wait.sleep_ns)
		end_wait(slot, bpf_ktime_get_ns());
	return 0;
}

#endif
