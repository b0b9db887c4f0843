/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Bios are queued and find their requests, in the context of who submits them. */
#ifndef OTEL_OOM_STORAGE_OPERATIONS_BIOS_H
#define OTEL_OOM_STORAGE_OPERATIONS_BIOS_H

SEC("tp_btf/block_bio_queue")
int BPF_PROG(on_bio_queue)
{
	struct slot *slot = current_slot();

	if (!slot)
		return 0;
	slot->last_bio_ns = bpf_ktime_get_ns();
	slot->operation.bios++;
	return 0;
}

/* Of the asynchronous operations that are submitted; the submitting call is one of `each`. */
static __always_inline bool is_asynchronous_sampled(__u32 call)
{
	struct storage_settings *settings = bpf_map_lookup_elem(&storage_settings, &zero);
	struct completion *state = bpf_map_lookup_elem(&completions, &zero);
	__u32 every, each;

	if (!settings || !state || call > STORAGE_CALL_WRITE || !settings->sample[call])
		return false;
	each = settings->sample[STORAGE_CALL_SUBMIT];
	every = each ? settings->sample[call] / each : 0;
	return every <= 1 || ++state->seen[call] % every == 0;
}

static __always_inline void fill_submitted(struct asynchronous *ret, const struct slot *slot,
					   const struct bio *bio)
{
	const struct inode *owner = bio_owner_inode(bio);

	ret->submitter = slot->operation.number;
	ret->submit_ns = slot->operation.at[STORAGE_EVENT_ENTER];
	ret->queue_ns = slot->last_bio_ns;
	ret->cgroup_id = slot->operation.cgroup_id;
	ret->start_boot_ns = slot->operation.start_boot_ns;
	ret->tid = slot->operation.tid;
	ret->tgid = slot->operation.tgid;
	ret->bytes = bio->bi_iter.bi_size;
	__builtin_memcpy(ret->comm, slot->operation.comm, sizeof(ret->comm));
	/* Page cache of another inode: the file system's own blocks. */
	if (!owner || (__u64)owner == slot->submitted_inode)
		ret->file = slot->submitted;
}

static __always_inline void note_asynchronous(const struct slot *slot, const struct bio *bio)
{
	struct storage_operation_counters *counts = counters();
	__u32 operation = bio->bi_opf & REQ_OP_MASK;
	struct asynchronous noted = {};
	__u64 key = (__u64)bio;
	long failed;

	noted.call = operation == REQ_OP_READ ? STORAGE_CALL_READ : STORAGE_CALL_WRITE;
	if (!counts || operation > REQ_OP_WRITE || !is_asynchronous_sampled(noted.call))
		return;
	noted.number = counts->tracked + 1;
	fill_submitted(&noted, slot, bio);
	failed = bpf_map_update_elem(&asynchronous, &key, &noted, BPF_NOEXIST);
	if (failed == -EEXIST) { /* its end was not seen, and the memory is used again */
		add(&counts->abandoned);
		bpf_map_update_elem(&asynchronous, &key, &noted, BPF_ANY);
	} else if (failed) {
		add(&counts->lost_asynchronous);
		return;
	} else {
		count_in_flight(low_half(bio), 1);
	}
	add(&counts->tracked);
}

/* The bio has its request, or is part of one that was there. */
static __always_inline int on_request_found(const struct bio *bio)
{
	struct slot *slot = current_slot();

	if (!slot)
		return 0;
	slot->last_getrq_ns = bpf_ktime_get_ns();
	if (slot->operation.call == STORAGE_CALL_SUBMIT)
		note_asynchronous(slot, bio);
	return 0;
}

SEC("tp_btf/block_getrq")
int BPF_PROG(on_getrq, struct bio *bio)
{
	return on_request_found(bio);
}

SEC("tp_btf/block_bio_backmerge")
int BPF_PROG(on_back_merge, struct bio *bio)
{
	return on_request_found(bio);
}

SEC("tp_btf/block_bio_frontmerge")
int BPF_PROG(on_front_merge, struct bio *bio)
{
	return on_request_found(bio);
}

/* Before "block: simplify and extend the block_bio_merge tracepoint class" and others (v5.11). */
SEC("tp_btf/block_getrq")
int BPF_PROG(on_getrq_of_5_10, struct request_queue *queue, struct bio *bio)
{
	return on_request_found(bio);
}

SEC("tp_btf/block_bio_backmerge")
int BPF_PROG(on_back_merge_of_5_10, struct request_queue *queue, struct request *rq,
	     struct bio *bio)
{
	return on_request_found(bio);
}

SEC("tp_btf/block_bio_frontmerge")
int BPF_PROG(on_front_merge_of_5_10, struct request_queue *queue, struct request *rq,
	     struct bio *bio)
{
	return on_request_found(bio);
}

#endif
