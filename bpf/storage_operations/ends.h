/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* A system call ends: counted in its series, and reported if it was slow. */
#ifndef OTEL_OOM_STORAGE_OPERATIONS_ENDS_H
#define OTEL_OOM_STORAGE_OPERATIONS_ENDS_H

static __always_inline void *found_or_made(void *map, const void *key, const void *value)
{
	void *found = bpf_map_lookup_elem(map, key);

	if (found)
		return found;
	bpf_map_update_elem(map, key, value, BPF_NOEXIST); /* another CPU may be first */
	return bpf_map_lookup_elem(map, key);
}

static __always_inline void count_error(const struct storage_call_key *key, __s64 result,
					struct storage_operation_counters *counts)
{
	struct storage_call_error_key failed = { .key = *key, .error = result };
	__u64 none = 0, *count;

	add(&counts->errors);
	count = found_or_made(&storage_call_errors, &failed, &none);
	if (count)
		add(count);
	else
		add(&counts->lost_errors);
}

/* -EINTR and what stands for it: the call begins again, or was given up by a signal. */
static __always_inline bool is_error(__s64 result)
{
	return result < 0 && result != -EINTR && result > -ERESTARTSYS;
}

static __always_inline void observe(struct storage_call_key key, __u64 ns, __s64 result,
				    struct storage_operation_counters *counts)
{
	struct storage_call_histogram *histogram;

	if (is_error(result))
		count_error(&key, result, counts);
	if (ns > EXPONENTIAL_LONGEST_NS) {
		add(&counts->too_long);
		return;
	}
	histogram = found_or_made(&storage_calls, &key, &empty);
	if (!histogram) {
		add(&counts->overflowed);
		key.cgroup_id = 0;
		key.device = 0;
		histogram = bpf_map_lookup_elem(&storage_calls, &key);
	}
	if (!histogram)
		return;
	__sync_fetch_and_add(&histogram->sum_ns, ns);
	if (ns <= EXPONENTIAL_SHORTEST_NS)
		add(&histogram->zeros);
	else
		__sync_fetch_and_add(
			&histogram->buckets[exponential_bucket(ns) & (STORAGE_CALL_BUCKETS - 1)],
			1);
}

static __always_inline bool is_slow(const struct storage_settings *settings,
				    const struct storage_operation *operation)
{
	__u64 total = operation->at[STORAGE_EVENT_EXIT] - operation->at[STORAGE_EVENT_ENTER];
	int i;

	if (total >= settings->total_ns)
		return true;
	if (total < settings->stage_ns)
		return false;
	NO_UNROLL
	for (i = 0; i < STORAGE_WAITS; i++)
		if (operation->wait[i].run_ns - operation->wait[i].sleep_ns >= settings->stage_ns)
			return true;
	return false;
}

static __always_inline void report(const struct storage_operation *operation,
				   struct storage_operation_counters *counts)
{
	struct commit_key key = { .device = operation->file.device,
				  .transaction = operation->transaction };
	struct storage_report *ret = bpf_ringbuf_reserve(&storage_reports, sizeof(*ret), 0);
	struct storage_operation *commit;

	if (!ret) {
		add(&counts->lost);
		return;
	}
	bpf_probe_read_kernel(&ret->operation, sizeof(ret->operation), operation);
	commit = key.transaction ? bpf_map_lookup_elem(&commits, &key) : NULL;
	if (commit)
		bpf_probe_read_kernel(&ret->commit, sizeof(ret->commit), commit);
	else
		ret->commit.number = 0;
	add(&counts->reported);
	bpf_ringbuf_submit(ret, 0);
}

static __always_inline void finish(struct slot *slot, __s64 result)
{
	struct storage_settings *settings = bpf_map_lookup_elem(&storage_settings, &zero);
	struct storage_operation_counters *counts = counters();
	struct storage_operation *operation = &slot->operation;
	struct storage_call_key key = { .cgroup_id = operation->cgroup_id,
					.device = operation->file.device,
					.call = operation->call };
	__u64 now = bpf_ktime_get_ns();

	if (!settings || !counts)
		return;
	operation->result = result;
	operation->at[STORAGE_EVENT_EXIT] = now;
	deactivate(slot, PHASE_FREE);
	add(&counts->finished);
	observe(key, now - operation->at[STORAGE_EVENT_ENTER], result, counts);
	if (is_slow(settings, operation))
		report(operation, counts);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs *regs, long result)
{
	struct slot *slot = current_slot();

	if (slot)
		finish(slot, result);
	return 0;
}

#endif
