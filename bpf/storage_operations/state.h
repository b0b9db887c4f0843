/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* What is kept between the programs: maps, and whose slot is whose. */
#ifndef OTEL_OOM_STORAGE_OPERATIONS_STATE_H
#define OTEL_OOM_STORAGE_OPERATIONS_STATE_H

#define MAX_COMMITS 256
#define MAX_WORKERS 1024
#define MAX_WORKS 1024
#define MAX_MERGED 512 /* bios of a request; the ends of more are not seen */
#define PLACES 4096
#define IO_URING_ENTER 426 /* on all architectures */
#define COMPLETION_NS 1000000 /* longest that its wake-ups come after a completion */
#define NO_UNROLL _Pragma("clang loop unroll(disable)")

SEC(".rodata.bits") const volatile struct storage_bits bits = {};

enum phase {
	PHASE_FREE = 0,
	PHASE_ACTIVE = 1,
	PHASE_COMMITTED = 2, /* the commit is over, its waiters are being woken */
};

struct slot {
	struct storage_operation operation;
	struct storage_wait wait; /* the present one, if sleep_ns is set */
	__u32 phase;
	__u32 is_throttled; /* about to sleep for having made too many pages dirty */
	__u32 is_forcing_log;
	__u32 in_reclaim;
	__u64 reclaim_start_ns;
	__u64 last_bio_ns;
	__u64 last_getrq_ns;
	__u64 inode; /* the kernel's struct inode */
	struct storage_file submitted; /* of the asynchronous operation that is being made */
	__u64 submitted_inode;
};

/* The request that completes on a CPU, for those that its completion wakes. */
struct completion {
	struct storage_request request;
	__u32 is_open;
	__s32 error; /* of `asynchronous`, -errno */
	__u32 seen[STORAGE_CALLS]; /* calls, of which one in `sample` is tracked */
	struct storage_request asynchronous; /* the one whose bios are told of */
	__u64 bio; /* ... and the one of them that has ended */
};

/* A bio that was queued by a task which does not wait for it. */
struct asynchronous {
	__u64 number;
	__u64 submitter;
	__u64 submit_ns;
	__u64 queue_ns;
	__u64 cgroup_id;
	__u64 start_boot_ns;
	struct storage_file file;
	__u32 tid;
	__u32 tgid;
	__u32 call;
	__u32 bytes;
	char comm[STORAGE_COMM_LEN];
};

/* include/uapi/linux/aio_abi.h; in the memory of the process. */
struct iocb {
	__u64 aio_data;
	__u32 aio_key;
	__u32 aio_rw_flags;
	__u16 aio_lio_opcode;
	__s16 aio_reqprio;
	__u32 aio_fildes;
};

/* A work that was queued in a completion, or in a work that was, until it is begun. */
struct work {
	struct storage_request request;
	__u64 address; /* the kernel's struct work_struct */
};

/* A worker of the kernel, from such a work's start to that of its next work. */
struct worker {
	struct storage_request request;
	__u32 tid;
	__u32 reserved;
};

struct commit_key {
	__u32 device;
	__u32 transaction;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 21); /* user space sets its own */
} storage_reports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct storage_operation_counters);
} storage_operation_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct storage_settings);
} storage_settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, STORAGE_SLOTS);
	__type(key, __u32);
	__type(value, struct slot);
} slots SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_WORKS);
	__type(key, __u32);
	__type(value, struct work);
} works SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, MAX_WORKERS);
	__type(key, __u32);
	__type(value, struct worker);
} workers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct completion);
} completions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_COMMITS);
	__type(key, struct commit_key);
	__type(value, struct storage_operation);
} commits SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* user space sets its own */
	__type(key, __u64); /* the kernel's struct bio */
	__type(value, struct asynchronous);
} asynchronous SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* user space sets its own */
	__type(key, struct storage_call_key);
	__type(value, struct storage_call_histogram);
} storage_calls SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, struct storage_call_error_key);
	__type(value, __u64);
} storage_call_errors SEC(".maps");

/* A series that begins; the stack has no room for it. */
static const struct storage_call_histogram empty = {};

/* Keeps the records in the object's BTF, from which Python's view is made. */
const struct storage_report *_anchor_report __attribute__((unused));
const enum storage_operation_flag *_anchor_operation_flag __attribute__((unused));
const struct storage_call_error_key *_anchor_error_key __attribute__((unused));
const enum storage_call *_anchor_call __attribute__((unused));
const enum storage_event *_anchor_event __attribute__((unused));
const enum storage_cause *_anchor_cause __attribute__((unused));
const enum storage_wait_flag *_anchor_wait_flag __attribute__((unused));
const enum storage_request_flag *_anchor_request_flag __attribute__((unused));

static const __u32 zero;

/*
 * Entries of `asynchronous`, in all and by a part of their address: most completions are of others,
 * and cost no lookup.
 */
static volatile __u32 in_flight;
static volatile __u32 in_flight_near[PLACES];

/*
 * How many slots are active, and by their place of which task each is. Most events are of none of
 * them, and cost a look at this and no more.
 */
static volatile __u32 active;
static volatile __u32 active_tids[STORAGE_SLOTS];

static __always_inline void add(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

static __always_inline struct storage_operation_counters *counters(void)
{
	return bpf_map_lookup_elem(&storage_operation_counters, &zero);
}

static __always_inline struct slot *slot_of(__u32 tid)
{
	__u32 index = tid % STORAGE_SLOTS;

	return bpf_map_lookup_elem(&slots, &index);
}

/* The operation that this task is in, or NULL. */
static __always_inline struct slot *active_slot(__u32 tid)
{
	if (!tid || active_tids[tid % STORAGE_SLOTS] != tid)
		return NULL;
	return slot_of(tid);
}

static __always_inline void activate(struct slot *slot)
{
	slot->phase = PHASE_ACTIVE;
	active_tids[slot->operation.tid % STORAGE_SLOTS] = slot->operation.tid;
	__sync_fetch_and_add(&active, 1);
}

static __always_inline void deactivate(struct slot *slot, enum phase phase)
{
	slot->phase = phase;
	active_tids[slot->operation.tid % STORAGE_SLOTS] = 0;
	__sync_fetch_and_add(&active, -1);
}

/* Half of a pointer is a number that the verifier lets us compute with. */
static __always_inline __u32 low_half(const void *pointer)
{
	__u32 low;

	asm volatile("%0 = %1" : "=w"(low) : "w"((__u32)(__u64)pointer));
	return low;
}

static __always_inline struct slot *current_slot(void)
{
	if (!active)
		return NULL;
	return active_slot((__u32)bpf_get_current_pid_tgid());
}

#endif
