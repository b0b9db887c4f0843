/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/*
 * What a completion does not do itself it hands to a worker of the kernel, and that wakes who
 * waits: ext4's conversion of extents, the end of I/O of XFS and Btrfs. So works are followed from
 * the completion that queues them, or the work that does, to the worker that does them.
 */
#ifndef OTEL_OOM_STORAGE_OPERATIONS_WORKERS_H
#define OTEL_OOM_STORAGE_OPERATIONS_WORKERS_H

struct pool_workqueue;
struct work_struct;

/* What completes on this CPU at this moment, or NULL. */
static __always_inline struct completion *completing(__u64 now)
{
	struct completion *state = bpf_map_lookup_elem(&completions, &zero);

	if (!state || !state->is_open || now - state->request.complete_ns > COMPLETION_NS)
		return NULL;
	return state;
}

static __always_inline struct worker *worker_of(__u32 tid)
{
	__u32 index = tid % MAX_WORKERS;
	struct worker *worker = bpf_map_lookup_elem(&workers, &index);

	return worker && worker->tid == tid ? worker : NULL;
}

/* Its place is that of others too: of two works there at a time the earlier is not followed. */
static __always_inline struct work *place_of_work(const struct work_struct *work)
{
	__u32 index = low_half(work) >> 3 & (MAX_WORKS - 1);

	return bpf_map_lookup_elem(&works, &index);
}

SEC("tp_btf/workqueue_queue_work")
int BPF_PROG(on_work_queued, unsigned int cpu, struct pool_workqueue *pool,
	     struct work_struct *work)
{
	struct completion *state;
	struct worker *worker;
	struct work *place;

	if (!active)
		return 0;
	state = completing(bpf_ktime_get_ns());
	worker = worker_of((__u32)bpf_get_current_pid_tgid());
	if (!state && !worker)
		return 0;
	place = place_of_work(work);
	if (!place)
		return 0;
	place->request = state ? state->request : worker->request;
	place->address = (__u64)work;
	return 0;
}

/* What the worker did before is over: so the end of a work need not be seen. */
SEC("tp_btf/workqueue_execute_start")
int BPF_PROG(on_work_start, struct work_struct *work)
{
	__u32 tid = (__u32)bpf_get_current_pid_tgid(), index = tid % MAX_WORKERS;
	struct worker *worker;
	struct work *place;

	if (!active)
		return 0;
	place = place_of_work(work);
	worker = bpf_map_lookup_elem(&workers, &index);
	if (!place || !worker)
		return 0;
	worker->tid = 0;
	if (place->address != (__u64)work)
		return 0;
	worker->request = place->request;
	worker->tid = tid;
	place->address = 0;
	return 0;
}

#endif
