/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Who wakes a task, and by which request. */
#ifndef OTEL_OOM_STORAGE_OPERATIONS_WAKEUPS_H
#define OTEL_OOM_STORAGE_OPERATIONS_WAKEUPS_H

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
	/* A request that was over before the operation began is none of its business. */
	if (worker && worker->request.complete_ns > slot->operation.at[STORAGE_EVENT_ENTER]) {
		wait->cause = STORAGE_CAUSE_WORKER;
		wait->request = worker->request;
	}
}

SEC("tp_btf/sched_waking")
int BPF_PROG(on_sched_waking, struct task_struct *task)
{
	struct slot *slot;
	__u32 waker;
	__u64 now;

	if (!active)
		return 0;
	slot = active_slot(task->pid);
	if (!slot || !slot->wait.sleep_ns || slot->wait.waking_ns)
		return 0;
	now = bpf_ktime_get_ns();
	waker = (__u32)bpf_get_current_pid_tgid();
	slot->wait.waker = waker;
	tell_cause(slot, waker, now);
	slot->wait.waking_ns = now;
	return 0;
}

#endif
