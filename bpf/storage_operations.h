/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/*
 * What the storage operations' timelines tell user space. This header is the contract:
 * Python's view of it (otel_oom/bpf/storage_operations_events.py) is generated from BTF.
 *
 * An operation is a system call of one task: it runs, and it waits. A wait is a sleep, from the
 * moment the scheduler takes the task off the CPU over its wake-up to the moment it runs again.
 * A wake-up out of the completion of a block request is that request's doing, and the wait
 * then carries the request's times: causality, not a join by address or sector.
 *
 * A request that a task submits and does not wait for (io_submit, io_uring_enter) is an operation
 * of its own, from its bio to the end of that, with one wait, which is the request. It names the
 * system call that submitted it.
 *
 * Each operation has slots of fixed number for its events, written by the event's index: its own
 * by the CPU it runs on, the wake-up by whoever wakes it. Times are CLOCK_MONOTONIC nanoseconds
 * (what the block layer stamps requests with), 0: the event was not seen. Pids are of the
 * initial PID namespace, devices are the kernel's dev_t (major << 20 | minor).
 */
#ifndef OTEL_OOM_STORAGE_OPERATIONS_H
#define OTEL_OOM_STORAGE_OPERATIONS_H

#define STORAGE_SLOTS 4096 /* operations at a time; a task's is that of tid % STORAGE_SLOTS */
#define STORAGE_WAITS 6 /* the longest ones of an operation that are kept */
#define STORAGE_COMM_LEN 16
#define STORAGE_SYSCALLS 512
#define STORAGE_CALL_BUCKETS 256

enum storage_call {
	STORAGE_CALL_NONE = 0,
	STORAGE_CALL_READ = 1,
	STORAGE_CALL_WRITE = 2,
	STORAGE_CALL_FSYNC = 3,
	STORAGE_CALL_FDATASYNC = 4,
	STORAGE_CALL_SYNC_FILE_RANGE = 5,
	STORAGE_CALL_SYNCFS = 6,
	STORAGE_CALL_SYNC = 7,
	STORAGE_CALL_FALLOCATE = 8,
	STORAGE_CALL_TRUNCATE = 9,
	STORAGE_CALL_OPEN = 10,
	STORAGE_CALL_UNLINK = 11,
	STORAGE_CALL_RENAME = 12,
	STORAGE_CALL_MKDIR = 13,
	STORAGE_CALL_COMMIT = 14, /* of a journal, by its kernel thread; never reported alone */
	STORAGE_CALL_SUBMIT = 15, /* io_submit; io_uring_enter up to where it waits */
	STORAGE_CALLS = 16,
};

/* Index into `at` of an operation; the first time of each, of *_END the last. */
enum storage_event {
	STORAGE_EVENT_ENTER = 0, /* the system call */
	STORAGE_EVENT_CACHE_MISS = 1, /* a folio was added to the page cache */
	STORAGE_EVENT_FS_ENTER = 2, /* the filesystem's fsync */
	STORAGE_EVENT_WRITEBACK = 3, /* the caller writes its file's dirty pages back */
	STORAGE_EVENT_WRITEBACK_END = 4,
	STORAGE_EVENT_LOG_FORCE = 5, /* xfs: waits for its log */
	STORAGE_EVENT_COMMIT_LOCKING = 6, /* of a journal's commit from here on */
	STORAGE_EVENT_COMMIT_FLUSHING = 7,
	STORAGE_EVENT_COMMIT_LOGGING = 8,
	STORAGE_EVENT_FS_EXIT = 9,
	STORAGE_EVENT_EXIT = 10,
	STORAGE_EVENTS = 12,
};

/* Why a task waited, as far as the kernel says. */
enum storage_cause {
	STORAGE_CAUSE_UNKNOWN = 0, /* another task woke it: a lock, a pipe, a queue of work */
	STORAGE_CAUSE_PREEMPTED = 1, /* it was ready to run all the time */
	STORAGE_CAUSE_REQUEST = 2, /* woken as `request` completed */
	STORAGE_CAUSE_WORKER = 3, /* woken by a kernel worker that had been woken as it did */
	STORAGE_CAUSE_COMMIT = 4, /* woken by the commit of `transaction` */
	STORAGE_CAUSE_THROTTLED = 5, /* too many dirty pages: balance_dirty_pages */
	STORAGE_CAUSE_RECLAIM = 6, /* within direct reclaim */
	STORAGE_CAUSES = 8,
};

enum storage_wait_flag {
	STORAGE_WAIT_IO = 1 << 0, /* the task said that it waits for I/O (io_schedule) */
	STORAGE_WAIT_LOG = 1 << 1, /* after STORAGE_EVENT_LOG_FORCE, before another event */
	STORAGE_WAIT_QUEUED = 1 << 2, /* it had queued a bio that had no request yet */
};

enum storage_operation_flag {
	STORAGE_OPERATION_ASYNCHRONOUS =
		1 << 0, /* no system call: a bio, from its queue to its end */
};

enum storage_request_flag {
	STORAGE_REQUEST_WRITE = 1 << 0,
	STORAGE_REQUEST_FLUSH = 1 << 1,
	STORAGE_REQUEST_MERGED = 1 << 2, /* more than one bio */
	STORAGE_REQUEST_ERROR = 1 << 3,
};

struct storage_request {
	__u64 start_ns; /* request made; before that the bio waited for a tag or a throttle */
	__u64 issue_ns; /* given to the driver; 0: this queue keeps no statistics */
	__u64 complete_ns;
	__u64 sector;
	__u32 bytes;
	__u32 device;
	__u32 flags; /* enum storage_request_flag */
	__u32 reserved;
};

struct storage_wait {
	__u64 sleep_ns;
	__u64 waking_ns; /* 0: never slept (preempted), or not seen */
	__u64 run_ns;
	__u64 queue_ns; /* last bio that the task itself queued before it slept */
	struct storage_request request; /* of STORAGE_CAUSE_REQUEST and _WORKER */
	__u32 cause; /* enum storage_cause */
	__u32 flags; /* enum storage_wait_flag */
	__u32 waker; /* tid; of an interrupt: whom it interrupted */
	__u32 transaction; /* of STORAGE_CAUSE_COMMIT: the one that had ended */
};

struct storage_file {
	__u64 inode; /* number; 0: the operation has no file */
	__u32 device; /* of its filesystem, s_dev; of a block device: that device */
	__u32 magic; /* s_magic of the filesystem */
	__s32 fd;
	__u32 mode; /* i_mode */
};

struct storage_operation {
	__u64 number; /* of all that were tracked; 0: none */
	__u32 tid;
	__u32 tgid;
	__u32 call; /* enum storage_call */
	__u32 waits; /* all; the longest STORAGE_WAITS of them are in `wait` */
	__u32 bios; /* queued by the task itself */
	__u32 cache_misses;
	__u32 transaction; /* ext4: with the file's last change; of a commit: its own */
	__u32 flags; /* enum storage_operation_flag */
	__u64 at[STORAGE_EVENTS];
	__u64 waited_ns[STORAGE_CAUSES]; /* off the CPU, by cause: all waits */
	__u64 runnable_ns; /* of that, from the wake-up on */
	__u64 reclaim_ns; /* in direct reclaim, running or not */
	__s64 result; /* of the system call: bytes, or -errno */
	__u64 cgroup_id;
	__u64 start_boot_ns; /* of the process */
	__u64 submitter; /* asynchronous: `number` of the call that submitted it, same tid */
	__u64 submit_ns; /* ... and its STORAGE_EVENT_ENTER */
	struct storage_file file;
	struct storage_wait wait[STORAGE_WAITS]; /* in no order; run_ns 0: not used */
	char comm[STORAGE_COMM_LEN];
};

/* One ring record: the operation, and the commit that it waited for (`number` 0: none). */
struct storage_report {
	struct storage_operation operation;
	struct storage_operation commit;
};

/* Bits of a request's rq_flags on this kernel; written before the load. */
struct storage_bits {
	__u32 io_stat; /* RQF_IO_STAT */
	__u32 flush_sequence; /* RQF_FLUSH_SEQ */
};

struct storage_settings {
	__u64 stage_ns; /* a wait as long as this is reported */
	__u64 total_ns;
	__u32 own_tgid; /* the agent's own operations are not tracked */
	__u32 reserved;
	__u32 sample[STORAGE_CALLS]; /* track one of so many; 0: none */
	__u8 call_of[STORAGE_SYSCALLS]; /* system call's number to enum storage_call */
};

struct storage_call_key {
	__u64 cgroup_id; /* inode of the cgroup's directory */
	__u32 device; /* of the filesystem; 0: the call has no file. With cgroup 0: overflow */
	__u32 call; /* enum storage_call */
};

/* Buckets as of struct storage_histogram in storage.h. Counts only grow, on all CPUs together. */
struct storage_call_histogram {
	__u64 sum_ns;
	__u64 zeros;
	__u32 buckets[STORAGE_CALL_BUCKETS];
};

struct storage_call_error_key {
	struct storage_call_key key;
	__s32 error; /* -errno */
	__u32 reserved;
};

/* Counted in the kernel since the load. tracked = finished + abandoned + in flight. */
struct storage_operation_counters {
	__u64 tracked;
	__u64 finished;
	__u64 abandoned; /* the task died inside the system call; a request's end was not seen */
	__u64 collided; /* not tracked: the slot was another task's */
	__u64 reported; /* slow, and in the ring */
	__u64 lost; /* slow, and no room in the ring */
	__u64 overflowed; /* finished, and counted in the overflow series of the call */
	__u64 too_long; /* finished, and longer than the last bucket: not in the histograms */
	__u64 errors; /* finished with an error */
	__u64 lost_errors; /* ... for which the table had no room */
	__u64 lost_asynchronous; /* not tracked: the table of requests had no room */
};

_Static_assert(sizeof(struct storage_request) == 48, "regenerate the events");
_Static_assert(sizeof(struct storage_wait) == 96, "regenerate the events");
_Static_assert(sizeof(struct storage_file) == 24, "regenerate the events");

#endif
