/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/*
 * What the block tier tells user space. This header is the contract: Python's view of it
 * (otel_oom/bpf/storage_events.py) is generated from the BTF of the built object.
 *
 * Histograms are OpenTelemetry's exponential histograms of seconds at scale 3: 8 buckets an
 * octave, bucket i of ours is OTLP's bucket i + STORAGE_FIRST_BUCKET, which holds
 * (2^(j/8), 2^((j+1)/8)] seconds. What is not longer than 2^STORAGE_FIRST_OCTAVE s is in `zeros`.
 * Counts only grow, from the load on; a bucket wraps at 2^32, so a reader adds differences.
 */
#ifndef OTEL_OOM_STORAGE_H
#define OTEL_OOM_STORAGE_H

#define STORAGE_BUCKETS_AN_OCTAVE 8
#define STORAGE_OCTAVES 32
#define STORAGE_BUCKETS (STORAGE_OCTAVES * STORAGE_BUCKETS_AN_OCTAVE)
#define STORAGE_FIRST_OCTAVE (-22)

enum storage_operation {
	STORAGE_OPERATION_READ = 0,
	STORAGE_OPERATION_WRITE = 1,
	STORAGE_OPERATION_FLUSH = 2, /* the device's cache, by the flush machinery */
	STORAGE_OPERATION_DISCARD = 3,
	STORAGE_OPERATION_SECURE_ERASE = 4,
	STORAGE_OPERATION_WRITE_ZEROES = 5,
	STORAGE_OPERATION_ZONE_APPEND = 6,
	STORAGE_OPERATION_OTHER = 7, /* zone management, and what kernels add */
};

#define STORAGE_CACHED 128 /* keys of each CPU, a power of two */
#define STORAGE_OPERATIONS 8 /* as many overflow slots, one each, before all others */

enum storage_request_flag {
	STORAGE_REQUEST_SYNC = 1 << 0,
	STORAGE_REQUEST_META = 1 << 1,
	STORAGE_REQUEST_FUA = 1 << 2,
	STORAGE_REQUEST_PREFLUSH = 1 << 3, /* asked for a flush before its data */
	STORAGE_REQUEST_READAHEAD = 1 << 4,
	STORAGE_REQUEST_BACKGROUND = 1 << 5, /* write-back that nobody waits for */
	STORAGE_REQUEST_MERGED = 1 << 6, /* of several bios: owner and file are the first's */
	STORAGE_REQUEST_AFTER_FLUSH = 1 << 7, /* its issue waited for its own flush */
};

struct storage_key {
	__u64 cgroup_id; /* inode of the cgroup's directory; 0: nobody's, as flushes are */
	__u32 device; /* dev_t of the whole disk, major << 20 | minor; 0: overflow */
	__u32 operation; /* enum storage_operation */
};

/*
 * One CPU's counts of one series; `requests` is written last. What every request writes is in
 * the first cache line, and each bucket is one line more.
 */
struct storage_series {
	__u64 requests;
	__u64 data_bytes;
	__u64 merged; /* requests of several bios */
	__u64 queue_sum_ns; /* start to issue */
	__u64 device_sum_ns; /* issue to complete */
	__u32 queue_zeros;
	__u32 device_zeros;
	__u64 reserved[2];
	__u32 queue_buckets[STORAGE_BUCKETS];
	__u32 device_buckets[STORAGE_BUCKETS];
};

/* The slot of a key that a CPU has seen: found without a look-up in the hash. */
struct storage_cached {
	__u64 owner; /* serial number of the cgroup's state, which is never used again */
	__u32 device;
	__u32 operation;
	__u32 slot;
	__u32 reserved[3];
};

struct storage_error_key {
	struct storage_key key;
	__s32 status; /* blk_status_t, or before v5.16 a negative errno */
	__u32 reserved;
};

/* One slow request; times are of CLOCK_BOOTTIME, 0: not known. */
struct storage_request {
	__u64 start_boot_ns;
	__u64 issue_boot_ns;
	__u64 complete_boot_ns;
	__u64 cgroup_id;
	__u64 sector; /* of 512 bytes */
	__u64 inode; /* of the first page's file; 0: no page cache page */
	__u32 inode_device; /* its superblock's dev_t */
	__u32 device;
	__u32 operation;
	__u32 flags; /* enum storage_request_flag */
	__u32 data_bytes;
	__s32 status; /* as in storage_error_key */
};

/* One CPU's counts since the load. */
struct storage_counters {
	__u64 taken; /* slots taken: the first ones are taken in order */
	__u64 errors; /* completions with an error */
	__u64 overflowed; /* requests counted in an overflow slot */
	__u64 no_device; /* ... because the disk was gone */
	__u64 passthrough; /* drivers' own commands, left out */
	__u64 sequence_ends; /* second completions of flush sequences, left out */
	__u64 partial; /* completions of a part of a request: bytes, no latency */
	__u64 no_start; /* queue not measured: the queue keeps no statistics (iostats=0) */
	__u64 after_flush; /* queue not measured: the request waited for its own flush */
	__u64 no_issue; /* queue and device not measured: the queue keeps no time of issue */
	__u64 never_issued; /* ... because the request failed before it reached the driver */
	__u64 backwards; /* a time that runs backwards, not measured */
	__u64 too_long; /* longer than the last bucket, not measured */
	__u64 slow; /* requests over a threshold */
	__u64 lost_slow; /* ... for which the ring had no room */
	__u64 lost_errors; /* errors for which the table had no room */
	__u64 lost_issues; /* issues for which the table had no room */
	__u64 nested; /* completions in an interrupt of this very program: not counted */
	__u64 running;
	__u64 reserved[5];
};

/* What each CPU has of its own. */
struct storage_cpu {
	struct storage_counters counters;
	struct storage_cached cached[STORAGE_CACHED]; /* by a hash of the key */
};

/* What user space tells the programs; `slots` are a CPU's, the overflow's included. */
struct storage_settings {
	__u64 stage_ns;
	__u64 total_ns;
	__u64 least_ns; /* the smaller of the two */
	__u64 queue_stats; /* QUEUE_FLAG_STATS, as a mask of this kernel */
	__u32 io_stat; /* RQF_IO_STAT */
	__u32 flush_sequence; /* RQF_FLUSH_SEQ */
	__u32 slots;
	__u32 zone_append; /* REQ_OP_ZONE_APPEND, or what no operation is */
};

_Static_assert(sizeof(struct storage_key) == 16, "regenerate storage_events.py");
_Static_assert(sizeof(struct storage_series) == 2112, "regenerate storage_events.py");
_Static_assert(sizeof(struct storage_cached) == 32, "regenerate storage_events.py");
_Static_assert(sizeof(struct storage_error_key) == 24, "regenerate storage_events.py");
_Static_assert(sizeof(struct storage_request) == 72, "regenerate storage_events.py");
_Static_assert(sizeof(struct storage_counters) == 192, "regenerate storage_events.py");
_Static_assert(sizeof(struct storage_cpu) == 4288, "regenerate storage_events.py");
_Static_assert(sizeof(struct storage_settings) == 48, "regenerate storage_events.py");

#endif
