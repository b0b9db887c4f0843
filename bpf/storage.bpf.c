// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/*
 * Latency of every block request, at its completion.
 *
 * The kernel keeps in the request when it began and when it was issued, so one program at
 * block_rq_complete is enough, without a map from request to time. Its fields are read through
 * BTF pointers, which are plain loads. Histograms are per CPU, with one writer each at a time,
 * in memory that user space maps. A request over a threshold also goes to the ring.
 */
#include "include/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "include/block.h"
#include "include/exponential.h"
#include "storage.h"

/* User space writes it before the load. */
SEC(".rodata.settings") const volatile struct storage_settings settings = {};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20); /* user space sets its own, and of all that follow */
} storage_requests SEC(".maps");

/* CPU * slots + slot. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct storage_series);
} storage_series SEC(".maps");

/* User space reads the counters, and takes out of the caches what it frees. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct storage_cpu);
} storage_cpus SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, struct storage_key);
	__type(value, __u32);
} storage_slots SEC(".maps");

/* Slots that no series has; user space fills it. */
struct {
	__uint(type, BPF_MAP_TYPE_QUEUE);
	__uint(max_entries, 1);
	__type(value, __u32);
} free_slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct storage_error_key);
	__type(value, __u64);
} storage_errors SEC(".maps");

/* Request to its time of issue, for queues that do not keep it. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} issues SEC(".maps");

/* Keeps the records in the object's BTF, from which Python's view is made. */
const struct storage_request *_anchor_request __attribute__((unused));
const struct storage_error_key *_anchor_error_key __attribute__((unused));
const enum storage_operation *_anchor_operation __attribute__((unused));
const enum storage_request_flag *_anchor_request_flag __attribute__((unused));

/* Times of one request on CLOCK_MONOTONIC; 0: not known. */
struct times {
	__u64 start_ns;
	__u64 issue_ns;
	__u64 now_ns;
	bool after_flush; /* the issue waited for the request's own flush */
};

static __always_inline __u32 operation_of(__u32 op)
{
	if (op <= REQ_OP_DISCARD)
		return op; /* our first four are the kernel's */
	if (op == REQ_OP_WRITE_ZEROES)
		return STORAGE_OPERATION_WRITE_ZEROES;
	if (op == REQ_OP_SECURE_ERASE)
		return STORAGE_OPERATION_SECURE_ERASE;
	if (op == settings.zone_append)
		return STORAGE_OPERATION_ZONE_APPEND;
	return STORAGE_OPERATION_OTHER;
}

/* A slot of its own for a new series, or the operation's overflow slot. */
static __always_inline __u32 take_slot(const struct storage_key *key,
				       struct storage_counters *counters)
{
	__u32 slot, *known;

	if (bpf_map_pop_elem(&free_slots, &slot))
		return key->operation;
	counters->taken++;
	if (!bpf_map_update_elem(&storage_slots, key, &slot, BPF_NOEXIST))
		return slot;
	bpf_map_push_elem(&free_slots, &slot, 0); /* another CPU was first */
	known = bpf_map_lookup_elem(&storage_slots, key);
	return known ? *known : key->operation;
}

/* The key's own slot, or the operation's overflow slot. */
static __always_inline __u32 look_up(const struct storage_key *key,
				     struct storage_counters *counters)
{
	__u32 *known;

	if (!key->device) {
		counters->no_device++;
		return key->operation;
	}
	known = bpf_map_lookup_elem(&storage_slots, key);
	return known ? *known : take_slot(key, counters);
}

/* As `look_up`, for a key that the CPU's cache does not have; from then on it has. */
static __noinline __u32 find_slot(const struct request *rq, __u32 operation,
				  struct storage_cached *cached, struct storage_counters *counters)
{
	struct storage_key key = {
		.cgroup_id = bio_cgroup(rq->bio),
		.device = request_device(rq),
		.operation = operation,
	};
	__u32 slot = look_up(&key, counters);

	if (slot < STORAGE_OPERATIONS) {
		counters->overflowed++;
		return slot;
	}
	cached->slot = slot;
	cached->device = key.device;
	cached->operation = operation;
	cached->owner = bio_owner(rq->bio);
	return slot;
}

static __always_inline __u32 slot_of(const struct request *rq, __u32 operation,
				     struct storage_cpu *own)
{
	__u64 owner = bio_owner(rq->bio);
	__u32 device = request_device(rq);
	__u32 at = (__u32)owner * 8 + device * 4 + operation;
	struct storage_cached *cached = &own->cached[at % STORAGE_CACHED];

	if (cached->owner == owner && cached->device == device && cached->operation == operation)
		return cached->slot;
	return find_slot(rq, operation, cached, &own->counters);
}

static __always_inline void observe(__u64 *sum_ns, __u32 *zeros, __u32 *buckets, __u64 ns,
				    struct storage_counters *counters)
{
	if (ns > EXPONENTIAL_LONGEST_NS) {
		counters->too_long++;
		return;
	}
	*sum_ns += ns;
	if (ns <= EXPONENTIAL_SHORTEST_NS)
		*zeros += 1;
	else
		buckets[exponential_bucket(ns) & (STORAGE_BUCKETS - 1)]++;
}

/* Whether the queue keeps the time of issue in the request: wbt, kyber and others ask for it. */
static __always_inline bool keeps_issue(const struct request *rq)
{
	return rq->q->queue_flags & settings.queue_stats;
}

/* The time of issue where the queue does not keep it. */
static __noinline __u64 noted_issue(const struct request *rq, __u64 start_ns,
				    struct storage_counters *counters)
{
	__u64 id = (__u64)rq, issue_ns = 0, *noted;

	if (keeps_issue(rq)) {
		counters->never_issued++;
		return 0;
	}
	noted = bpf_map_lookup_elem(&issues, &id);
	if (noted) {
		issue_ns = *noted;
		bpf_map_delete_elem(&issues, &id);
	}
	if (issue_ns && start_ns && issue_ns >= start_ns) /* else of an earlier use of `rq` */
		return issue_ns;
	counters->no_issue++;
	return 0;
}

static __always_inline void observe_device(struct storage_series *series, const struct times *times,
					   struct storage_counters *counters)
{
	if (!times->issue_ns)
		return;
	if (times->now_ns < times->issue_ns)
		counters->backwards++;
	else
		observe(&series->device_sum_ns, &series->device_zeros, series->device_buckets,
			times->now_ns - times->issue_ns, counters);
}

static __always_inline void observe_queue(struct storage_series *series, const struct times *times,
					  struct storage_counters *counters)
{
	if (!times->start_ns)
		counters->no_start++;
	else if (!times->issue_ns)
		return;
	else if (times->after_flush)
		counters->after_flush++;
	else if (times->issue_ns < times->start_ns)
		counters->backwards++;
	else
		observe(&series->queue_sum_ns, &series->queue_zeros, series->queue_buckets,
			times->issue_ns - times->start_ns, counters);
}

static __noinline void count_error(const struct request *rq, __u32 operation, int status,
				   struct storage_counters *counters)
{
	struct storage_error_key failed = {
		.key.cgroup_id = bio_cgroup(rq->bio),
		.key.device = request_device(rq),
		.key.operation = operation,
		.status = status,
	};
	__u64 one = 1, *known;

	counters->errors++;
	known = bpf_map_lookup_elem(&storage_errors, &failed);
	if (!known && !bpf_map_update_elem(&storage_errors, &failed, &one, BPF_NOEXIST))
		return;
	if (!known)
		known = bpf_map_lookup_elem(&storage_errors, &failed);
	if (known)
		__sync_fetch_and_add(known, 1);
	else
		counters->lost_errors++;
}

static __always_inline bool is_over(__u64 from_ns, __u64 to_ns, __u64 threshold_ns)
{
	return from_ns && to_ns > from_ns && to_ns - from_ns >= threshold_ns;
}

static __always_inline bool is_slow(const struct times *times)
{
	return is_over(times->start_ns, times->now_ns, settings.total_ns) ||
	       is_over(times->start_ns, times->issue_ns, settings.stage_ns) ||
	       is_over(times->issue_ns, times->now_ns, settings.stage_ns);
}

#define FLAG(bits, name) (bits >> bpf_core_enum_value(enum req_flag_bits, __REQ_##name) & 1)

static __always_inline __u32 request_flags(const struct request *rq)
{
	/* A flush sequence takes PREFLUSH and FUA from the request; the bio keeps them. */
	__u32 bits = rq->cmd_flags | rq->bio->bi_opf;

	return FLAG(bits, SYNC) * STORAGE_REQUEST_SYNC | FLAG(bits, META) * STORAGE_REQUEST_META |
	       FLAG(bits, FUA) * STORAGE_REQUEST_FUA |
	       FLAG(bits, PREFLUSH) * STORAGE_REQUEST_PREFLUSH |
	       FLAG(bits, RAHEAD) * STORAGE_REQUEST_READAHEAD |
	       FLAG(bits, BACKGROUND) * STORAGE_REQUEST_BACKGROUND;
}

static __always_inline const struct page *first_page(const struct bio *bio)
{
	const struct bio_vec *vec = BPF_CORE_READ(bio, bi_io_vec);

	if (!vec)
		return NULL;
	vec += BPF_CORE_READ(bio, bi_iter.bi_idx);
	return folio_start(BPF_CORE_READ(vec, bv_page));
}

/* The inode in whose cache the page is; NULL: none, as with anonymous memory. */
static __always_inline const struct inode *page_inode(const struct page *page)
{
	unsigned long mapping = (unsigned long)BPF_CORE_READ(page, mapping);

	if (!mapping || mapping & PAGE_MAPPING_FLAGS)
		return NULL;
	return BPF_CORE_READ((struct address_space *)mapping, host);
}

/* The file that the request's first page belongs to: the owner of write-back. */
static __always_inline void fill_file(struct storage_request *record, const struct request *rq)
{
	const struct inode *inode = NULL;
	const struct page *page = NULL;

	record->inode = 0;
	record->inode_device = 0;
	if (record->operation <= STORAGE_OPERATION_WRITE && rq->__data_len)
		page = first_page(rq->bio);
	if (page)
		inode = page_inode(page);
	if (!inode)
		return;
	/* A block device's own cache is written without marks: file systems' metadata. */
	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) != S_IFBLK &&
	    !is_cache_io(page, record->operation == STORAGE_OPERATION_READ))
		return;
	record->inode = BPF_CORE_READ(inode, i_ino);
	record->inode_device = BPF_CORE_READ(inode, i_sb, s_dev);
}

static __noinline void emit(const struct request *rq, __u32 operation, const struct times *times,
			    int status, struct storage_counters *counters)
{
	struct storage_request *record;
	__u64 to_boot_ns;

	counters->slow++;
	record = bpf_ringbuf_reserve(&storage_requests, sizeof(*record), 0);
	if (!record) {
		counters->lost_slow++;
		return;
	}
	to_boot_ns = bpf_ktime_get_boot_ns() - bpf_ktime_get_ns();
	record->start_boot_ns = times->start_ns ? times->start_ns + to_boot_ns : 0;
	record->issue_boot_ns = times->issue_ns ? times->issue_ns + to_boot_ns : 0;
	record->complete_boot_ns = times->now_ns + to_boot_ns;
	record->cgroup_id = bio_cgroup(rq->bio);
	record->device = request_device(rq);
	record->operation = operation;
	record->sector = rq->__sector;
	record->data_bytes = rq->__data_len;
	record->status = status;
	record->flags = request_flags(rq);
	if (times->after_flush)
		record->flags |= STORAGE_REQUEST_AFTER_FLUSH;
	if (rq->bio != rq->biotail)
		record->flags |= STORAGE_REQUEST_MERGED;
	fill_file(record, rq);
	bpf_ringbuf_submit(record, 0);
}

static __always_inline void measure(const struct request *rq, __u32 operation,
				    struct storage_series *series, int status,
				    struct storage_counters *counters)
{
	struct times times = {
		.issue_ns = rq->io_start_time_ns,
		.now_ns = bpf_ktime_get_ns(),
	};

	/* The flush machinery's own request is not in the statistics, but it has its start. */
	if (rq->rq_flags & settings.io_stat || operation == STORAGE_OPERATION_FLUSH)
		times.start_ns = rq->start_time_ns;
	if (!times.issue_ns)
		times.issue_ns = noted_issue(rq, times.start_ns, counters);
	if (rq->rq_flags & settings.flush_sequence && operation != STORAGE_OPERATION_FLUSH)
		times.after_flush = FLAG(rq->bio->bi_opf, PREFLUSH);
	observe_device(series, &times, counters);
	observe_queue(series, &times, counters);
	if (rq->bio != rq->biotail)
		series->merged++;
	/* Neither part is longer than the whole; where there is no start, 0 lets it pass. */
	if (times.now_ns - times.start_ns >= settings.least_ns && is_slow(&times)) {
		struct times copy = times; /* so that `times` itself need not be in memory */

		emit(rq, operation, &copy, status, counters);
	}
}

static __always_inline bool is_left_out(const struct request *rq, __u32 op,
					struct storage_counters *counters)
{
	if (op >= REQ_OP_PASSTHROUGH_FIRST && op <= REQ_OP_PASSTHROUGH_LAST) {
		counters->passthrough++;
		return true;
	}
	if (!rq->__data_len && op <= REQ_OP_WRITE) {
		counters->sequence_ends++; /* of its flush sequence; its steps were counted */
		return true;
	}
	return false;
}

static __always_inline void count(const struct request *rq, int status, unsigned int nr_bytes,
				  __u32 cpu, struct storage_cpu *own)
{
	struct storage_counters *counters = &own->counters;
	__u32 op = rq->cmd_flags & REQ_OP_MASK, operation, index;
	struct storage_series *series;

	if (is_left_out(rq, op, counters))
		return;
	operation = operation_of(op);
	index = cpu * settings.slots + slot_of(rq, operation, own);
	series = bpf_map_lookup_elem(&storage_series, &index);
	if (!series)
		return;
	if (status)
		count_error(rq, operation, status, counters);
	else
		series->data_bytes += nr_bytes;
	if (nr_bytes < rq->__data_len) {
		counters->partial++;
		return;
	}
	measure(rq, operation, series, status, counters);
	series->requests++;
}

/*
 * Before v6.2 (05b24ff9b2cf) the kernel lets an interrupt run the program while it is running
 * on the same CPU; what would then be written twice is counted instead.
 */
SEC("tp_btf/block_rq_complete")
int BPF_PROG(on_rq_complete, struct request *rq, int status, unsigned int nr_bytes)
{
	__u32 cpu = bpf_get_smp_processor_id();
	struct storage_cpu *own = bpf_map_lookup_elem(&storage_cpus, &cpu);

	if (!own)
		return 0;
	if (own->counters.running) {
		__sync_fetch_and_add(&own->counters.nested, 1);
		return 0;
	}
	own->counters.running = 1;
	count(rq, status, nr_bytes, cpu, own);
	own->counters.running = 0;
	return 0;
}

/* Attached when requests without a time of issue were seen. */
SEC("tp_btf/block_rq_issue")
int BPF_PROG(on_rq_issue, struct request *rq)
{
	__u64 id = (__u64)rq, now_ns;
	__u32 cpu = bpf_get_smp_processor_id();
	struct storage_cpu *own;

	if (keeps_issue(rq))
		return 0;
	now_ns = bpf_ktime_get_ns();
	if (!bpf_map_update_elem(&issues, &id, &now_ns, BPF_ANY))
		return 0;
	own = bpf_map_lookup_elem(&storage_cpus, &cpu);
	if (own)
		__sync_fetch_and_add(&own->counters.lost_issues, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
