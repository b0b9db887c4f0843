/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* What of io_uring and io_submit tells which entry, and which file, is submitted. */
#ifndef OTEL_OOM_STORAGE_OPERATIONS_SUBMISSIONS_H
#define OTEL_OOM_STORAGE_OPERATIONS_SUBMISSIONS_H

/* The slot of the current task, if it is submitting asynchronous I/O. */
static __always_inline struct slot *submitting_slot(void)
{
	struct slot *slot = current_slot();

	return slot && slot->operation.call == STORAGE_CALL_SUBMIT ? slot : NULL;
}

/* io_uring_enter has submitted all: from here on it waits, for whatever the ring is used for. */
SEC("tp_btf/io_uring_cqring_wait")
int BPF_PROG(on_uring_wait)
{
	struct slot *slot = submitting_slot();

	if (slot)
		finish(slot, 0);
	return 0;
}

/* The next entry of the ring; a file that the ring has registered is not told of. */
static __always_inline int on_uring_entry(void)
{
	struct slot *slot = submitting_slot();

	if (!slot)
		return 0;
	__builtin_memset(&slot->submitted, 0, sizeof(slot->submitted));
	slot->submitted_inode = 0;
	return 0;
}

SEC("tp_btf/io_uring_submit_req")
int BPF_PROG(on_uring_submit)
{
	return on_uring_entry();
}

/* Before "io_uring: rename trace_io_uring_submit_sqe() tracepoint" (v6.5). */
SEC("tp_btf/io_uring_submit_sqe")
int BPF_PROG(on_uring_submit_of_6_1)
{
	return on_uring_entry();
}

/* An operation is issued for the first time; before v6.0 the file was taken earlier. */
SEC("tp_btf/io_uring_file_get")
int BPF_PROG(on_uring_file, void *req, int fd)
{
	const struct io_kiocb *entry = req;
	struct slot *slot = submitting_slot();

	if (!slot || !bpf_core_field_exists(entry->cqe))
		return 0;
	if (fill_file(&slot->submitted, (void *)bpf_get_current_task(), fd, &slot->submitted_inode))
		return 0;
	__builtin_memset(&slot->submitted, 0, sizeof(slot->submitted));
	slot->submitted_inode = 0;
	return 0;
}

/* A task that dies in a system call leaves it without an exit. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_task_exit, struct task_struct *task)
{
	struct storage_operation_counters *counts = counters();
	struct slot *slot = current_slot();

	if (!slot || !counts)
		return 0;
	deactivate(slot, PHASE_FREE);
	add(&counts->abandoned);
	return 0;
}

#endif
