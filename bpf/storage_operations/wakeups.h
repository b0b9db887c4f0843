/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Who wakes a task, and by which request: one wake-up back through the workers. */
#ifndef OTEL_OOM_STORAGE_OPERATIONS_WAKEUPS_H
#define OTEL_OOM_STORAGE_OPERATIONS_WAKEUPS_H

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

/* A worker is woken by a completion, or by another worker that was. */
static __always_inline void follow_worker(struct task_struct *woken, __u32 waker, __u64 now)
{
	struct completion *state = completing(now);
	__u32 tid = woken->pid, index = tid % MAX_WORKERS;
	struct worker *worker = worker_of(waker), *entry;

	if (!state && !worker)
		return;
	entry = bpf_map_lookup_elem(&workers, &index);
	if (!entry)
		return;
	entry->request = state ? state->request : worker->request;
	entry->tid = tid;
}

/*
 * A task whose bio has no request yet waits for a tag, and any request that ends may give it
 * one: that one is older than the bio, and no cause of the time it took.
 */
static __always_inline bool is_for_anothers_tag(const struct storage_wait *wait,
						const struct storage_request *request)
{
	return wait->flags & STORAGE_WAIT_QUEUED && request->start_ns < wait->queue_ns;
}

static __always_inline void tell_cause(struct slot *slot, __u32 waker, __u64 now)
{
	struct storage_wait *wait = &slot->wait;
	struct completion *state = completing(now);
	struct worker *worker;
	struct slot *other;

	wait->cause = STORAGE_CAUSE_UNKNOWN;
	if (slot->is_throttled) {
		wait->cause = STORAGE_CAUSE_THROTTLED;
		return;
	}
	if (slot->in_reclaim) {
		wait->cause = STORAGE_CAUSE_RECLAIM;
		return;
	}
	if (state && !is_for_anothers_tag(wait, &state->request)) {
		wait->cause = STORAGE_CAUSE_REQUEST;
		wait->request = state->request;
		return;
	}
	other = slot_of(waker);
	if (other && other->operation.tid == waker && other->phase != PHASE_FREE &&
	    other->operation.call == STORAGE_CALL_COMMIT) {
		wait->cause = STORAGE_CAUSE_COMMIT;
		wait->transaction = other->operation.transaction;
		return;
	}
	worker = worker_of(waker);
	if (worker) {
		wait->cause = STORAGE_CAUSE_WORKER;
		wait->request = worker->request;
	}
}

SEC("tp_btf/sched_waking")
int BPF_PROG(on_sched_waking, struct task_struct *task)
{
	__u32 waker = (__u32)bpf_get_current_pid_tgid();
	struct slot *slot = active_slot(task->pid);
	__u64 now;

	if (!slot) {
		if (task->flags & PF_WQ_WORKER)
			follow_worker(task, waker, bpf_ktime_get_ns());
		return 0;
	}
	if (!slot->wait.sleep_ns || slot->wait.waking_ns)
		return 0;
	now = bpf_ktime_get_ns();
	slot->wait.waker = waker;
	tell_cause(slot, waker, now);
	slot->wait.waking_ns = now;
	return 0;
}

#endif
