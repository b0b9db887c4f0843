/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Where a call is: page cache, filesystem, throttle, reclaim; and the commits of journals. */
#ifndef OTEL_OOM_STORAGE_OPERATIONS_EVENTS_H
#define OTEL_OOM_STORAGE_OPERATIONS_EVENTS_H

static __always_inline int on_event(enum storage_event event, bool keep_first)
{
	struct slot *slot = current_slot();

	if (!slot)
		return 0;
	slot->is_forcing_log = event == STORAGE_EVENT_LOG_FORCE;
	if (!keep_first || !slot->operation.at[event])
		slot->operation.at[event] = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/mm_filemap_add_to_page_cache")
int BPF_PROG(on_cache_miss)
{
	struct slot *slot = current_slot();

	if (!slot)
		return 0;
	slot->operation.cache_misses++;
	if (!slot->operation.at[STORAGE_EVENT_CACHE_MISS])
		slot->operation.at[STORAGE_EVENT_CACHE_MISS] = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int on_dirty_pause(long pause)
{
	struct slot *slot = current_slot();

	if (slot && pause > 0)
		slot->is_throttled = 1;
	return 0;
}

/* "writeback: simplify writeback tracepoints" and others: the pause moves with the arguments. */
SEC("tp_btf/balance_dirty_pages")
int on_dirty_throttle(__u64 *ctx)
{
	return on_dirty_pause(ctx[6]);
}

SEC("tp_btf/balance_dirty_pages")
int on_dirty_throttle_of_12(__u64 *ctx)
{
	return on_dirty_pause(ctx[10]);
}

static __always_inline int on_reclaim_begin(void)
{
	struct slot *slot = current_slot();

	if (slot && !slot->in_reclaim++)
		slot->reclaim_start_ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int on_reclaim_end(void)
{
	struct slot *slot = current_slot();

	if (slot && slot->in_reclaim && !--slot->in_reclaim)
		slot->operation.reclaim_ns += bpf_ktime_get_ns() - slot->reclaim_start_ns;
	return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int BPF_PROG(on_direct_reclaim_begin)
{
	return on_reclaim_begin();
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int BPF_PROG(on_direct_reclaim_end)
{
	return on_reclaim_end();
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int BPF_PROG(on_memcg_reclaim_begin)
{
	return on_reclaim_begin();
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int BPF_PROG(on_memcg_reclaim_end)
{
	return on_reclaim_end();
}

SEC("tp_btf/ext4_sync_file_enter")
int BPF_PROG(on_ext4_sync_enter)
{
	return on_event(STORAGE_EVENT_FS_ENTER, true);
}

SEC("tp_btf/ext4_sync_file_exit")
int BPF_PROG(on_ext4_sync_exit)
{
	return on_event(STORAGE_EVENT_FS_EXIT, false);
}

SEC("tp_btf/ext4_writepages")
int BPF_PROG(on_ext4_writepages)
{
	return on_event(STORAGE_EVENT_WRITEBACK, true);
}

SEC("tp_btf/ext4_writepages_result")
int BPF_PROG(on_ext4_writepages_result)
{
	return on_event(STORAGE_EVENT_WRITEBACK_END, false);
}

SEC("tp_btf/xfs_file_fsync")
int BPF_PROG(on_xfs_fsync)
{
	return on_event(STORAGE_EVENT_FS_ENTER, true);
}

SEC("tp_btf/xfs_log_force")
int BPF_PROG(on_xfs_log_force)
{
	return on_event(STORAGE_EVENT_LOG_FORCE, true);
}

SEC("tp_btf/btrfs_sync_file")
int BPF_PROG(on_btrfs_sync)
{
	return on_event(STORAGE_EVENT_FS_ENTER, true);
}

/* A commit is an operation of the journal's thread. */
SEC("tp_btf/jbd2_start_commit")
int BPF_PROG(on_commit_start, struct journal_s *journal, struct transaction_s *transaction)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct storage_operation_counters *counts = counters();
	struct slot *slot;

	if (!counts)
		return 0;
	slot = claim(tid, counts);
	if (!slot)
		return 0;
	fill_task(&slot->operation, task);
	slot->operation.call = STORAGE_CALL_COMMIT;
	slot->operation.transaction = BPF_CORE_READ(transaction, t_tid);
	slot->operation.file.device = BPF_CORE_READ(journal, j_fs_dev, bd_dev);
	slot->operation.at[STORAGE_EVENT_ENTER] = bpf_ktime_get_ns();
	activate(slot);
	return 0;
}

SEC("tp_btf/jbd2_commit_locking")
int BPF_PROG(on_commit_locking)
{
	return on_event(STORAGE_EVENT_COMMIT_LOCKING, true);
}

SEC("tp_btf/jbd2_commit_flushing")
int BPF_PROG(on_commit_flushing)
{
	return on_event(STORAGE_EVENT_COMMIT_FLUSHING, true);
}

SEC("tp_btf/jbd2_commit_logging")
int BPF_PROG(on_commit_logging)
{
	return on_event(STORAGE_EVENT_COMMIT_LOGGING, true);
}

SEC("tp_btf/jbd2_end_commit")
int BPF_PROG(on_commit_end)
{
	struct storage_operation_counters *counts = counters();
	struct slot *slot = current_slot();
	struct commit_key key;

	if (!slot || !counts)
		return 0;
	slot->operation.at[STORAGE_EVENT_EXIT] = bpf_ktime_get_ns();
	deactivate(slot, PHASE_COMMITTED);
	add(&counts->finished);
	key.device = slot->operation.file.device;
	key.transaction = slot->operation.transaction;
	bpf_map_update_elem(&commits, &key, &slot->operation, BPF_ANY);
	return 0;
}

#endif
