/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Block requests complete, for the task that waits or for one that does not. */
#ifndef OTEL_OOM_STORAGE_OPERATIONS_REQUESTS_H
#define OTEL_OOM_STORAGE_OPERATIONS_REQUESTS_H

/*
 * A request with a flush before or after it (PREFLUSH, FUA) ends twice: at the end of its data,
 * if it has any, and when the flush machinery is done with it; then it has no bytes left. The
 * flush itself is a request of the queue's own, which ends right before that on this CPU.
 */
static __always_inline void complete(struct completion *state, struct request *rq, __u32 bytes)
{
	struct storage_request *ret = &state->request;
	__u32 operation = rq->cmd_flags & REQ_OP_MASK;
	__u64 issue_ns = rq->io_start_time_ns;

	if (is_passthrough(operation) || bytes < rq->__data_len)
		return;
	if (operation == REQ_OP_WRITE && !bytes) {
		if (!issue_ns && state->is_open && ret->flags & STORAGE_REQUEST_FLUSH)
			issue_ns = ret->issue_ns;
		ret->flags = STORAGE_REQUEST_WRITE | STORAGE_REQUEST_FLUSH;
	} else if (operation == REQ_OP_FLUSH) {
		ret->flags = STORAGE_REQUEST_FLUSH;
	} else {
		ret->flags = operation == REQ_OP_READ ? 0 : STORAGE_REQUEST_WRITE;
	}
	if (rq->bio && rq->bio->bi_next)
		ret->flags |= STORAGE_REQUEST_MERGED;
	ret->start_ns = rq->start_time_ns;
	ret->issue_ns = issue_ns;
	ret->sector = rq->__sector;
	ret->bytes = bytes;
	ret->device = request_device(rq);
	ret->complete_ns = bpf_ktime_get_ns();
	state->is_open = 1;
}

static __always_inline __u32 place_of(__u32 address)
{
	return address >> 6 & (PLACES - 1);
}

static __always_inline void count_in_flight(__u32 address, int change)
{
	__sync_fetch_and_add(&in_flight, change);
	__sync_fetch_and_add(&in_flight_near[place_of(address)], change);
}

/* Tells of an operation that was asynchronous. All is zeroed, for the ring's memory is not. */
static __always_inline void tell_asynchronous(const struct asynchronous *noted,
					      const struct completion *state,
					      struct storage_operation_counters *counts)
{
	struct storage_report *ret = bpf_ringbuf_reserve(&storage_reports, sizeof(*ret), 0);
	const struct storage_request *request = &state->asynchronous;
	struct storage_operation *operation;
	volatile __u64 *word;
	int i;

	if (!ret) {
		add(&counts->lost);
		return;
	}
	word = (void *)ret;
	NO_UNROLL
	for (i = 0; i < sizeof(*ret) / sizeof(*word); i++)
		word[i] = 0;
	operation = &ret->operation;
	operation->number = noted->number;
	operation->tid = noted->tid;
	operation->tgid = noted->tgid;
	operation->call = noted->call;
	operation->flags = STORAGE_OPERATION_ASYNCHRONOUS;
	operation->waits = 1;
	operation->bios = 1;
	operation->at[STORAGE_EVENT_ENTER] = noted->queue_ns;
	operation->at[STORAGE_EVENT_EXIT] = request->complete_ns;
	operation->waited_ns[STORAGE_CAUSE_REQUEST] = request->complete_ns - noted->queue_ns;
	operation->result = state->error ? state->error : (__s64)noted->bytes;
	operation->cgroup_id = noted->cgroup_id;
	operation->start_boot_ns = noted->start_boot_ns;
	operation->submitter = noted->submitter;
	operation->submit_ns = noted->submit_ns;
	operation->file = noted->file;
	__builtin_memcpy(operation->comm, noted->comm, sizeof(noted->comm));
	operation->wait[0].sleep_ns = noted->queue_ns;
	operation->wait[0].waking_ns = request->complete_ns;
	operation->wait[0].run_ns = request->complete_ns;
	operation->wait[0].queue_ns = noted->queue_ns;
	operation->wait[0].request = *request;
	operation->wait[0].cause = STORAGE_CAUSE_REQUEST;
	add(&counts->reported);
	bpf_ringbuf_submit(ret, 0);
}

/* The end of state->bio; not static, so that the verifier walks it once and not for each bio. */
__noinline int finish_asynchronous(void)
{
	struct storage_settings *settings = bpf_map_lookup_elem(&storage_settings, &zero);
	struct completion *state = bpf_map_lookup_elem(&completions, &zero);
	__u64 bio = state ? state->bio : 0;
	struct asynchronous *noted = bpf_map_lookup_elem(&asynchronous, &bio);
	struct storage_operation_counters *counts = counters();
	struct storage_call_key key = {};
	__u64 ns;

	if (!noted || !state || !settings || !counts)
		return 0;
	key.cgroup_id = noted->cgroup_id;
	key.device = noted->file.inode ? noted->file.device : state->asynchronous.device;
	key.call = noted->call;
	ns = state->asynchronous.complete_ns - noted->queue_ns;
	observe(key, ns, state->error, counts);
	if (ns >= settings->total_ns || ns >= settings->stage_ns)
		tell_asynchronous(noted, state, counts);
	add(&counts->finished);
	if (!bpf_map_delete_elem(&asynchronous, &bio))
		count_in_flight((__u32)bio, -1);
	return 0;
}

static __always_inline void fill_asynchronous(struct storage_request *ret, struct request *rq,
					      __u32 bytes)
{
	ret->start_ns = rq->rq_flags & bits.io_stat ? rq->start_time_ns : 0;
	ret->issue_ns = rq->io_start_time_ns;
	ret->complete_ns = bpf_ktime_get_ns();
	ret->sector = rq->__sector;
	ret->bytes = bytes;
	ret->device = request_device(rq);
	ret->flags = (rq->cmd_flags & REQ_OP_MASK) == REQ_OP_READ ? 0 : STORAGE_REQUEST_WRITE;
	if (!bytes)
		ret->flags |= STORAGE_REQUEST_FLUSH;
	if (rq->bio && rq->bio->bi_next)
		ret->flags |= STORAGE_REQUEST_MERGED;
}

static __always_inline bool has_noted(const struct bio *bio)
{
	int i;

	NO_UNROLL
	for (i = 0; i < MAX_MERGED && bio; i++) {
		if (in_flight_near[place_of(low_half(bio))])
			return true;
		bio = bio->bi_next;
	}
	return false;
}

/*
 * The bios that end with this completion: all, or of a part those that are whole in it. A request
 * with a flush before or after it keeps its bio until that is done, and has no bytes then.
 */
static __always_inline void finish_bios(struct completion *state, struct request *rq, int status,
					__u32 bytes)
{
	__u32 operation = rq->cmd_flags & REQ_OP_MASK, left = bytes;
	const struct bio *bio = rq->bio;
	int i;

	if (operation > REQ_OP_WRITE || (bytes && rq->rq_flags & bits.flush_sequence))
		return;
	if (!has_noted(bio))
		return;
	fill_asynchronous(&state->asynchronous, rq, bytes);
	state->error = status_errno(status);
	NO_UNROLL
	for (i = 0; i < MAX_MERGED && bio && bio->bi_iter.bi_size <= left; i++) {
		left -= bio->bi_iter.bi_size;
		state->bio = (__u64)bio;
		finish_asynchronous();
		bio = bio->bi_next;
	}
}

SEC("tp_btf/block_rq_complete")
int BPF_PROG(on_request_complete, struct request *rq, int error, __u32 bytes)
{
	struct completion *state = bpf_map_lookup_elem(&completions, &zero);

	if (!state)
		return 0;
	if (active) {
		complete(state, rq, bytes);
		if (error)
			state->request.flags |= STORAGE_REQUEST_ERROR;
	} else if (state->is_open) {
		state->is_open = 0;
	}
	if (in_flight)
		finish_bios(state, rq, error, bytes);
	return 0;
}

/* After its completion has told everybody (v6.5, and backports); a flush's comes before. */
SEC("tp_btf/block_io_done")
int BPF_PROG(on_request_done, struct request *rq)
{
	struct completion *state;

	if (!active)
		return 0;
	state = bpf_map_lookup_elem(&completions, &zero);
	if (state && (rq->cmd_flags & REQ_OP_MASK) != REQ_OP_FLUSH)
		state->is_open = 0;
	return 0;
}

#endif
