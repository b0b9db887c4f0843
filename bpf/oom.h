/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/*
 * What the OOM probes tell user space. This header is the contract: Python's view of it
 * (otel_oom/bpf/events.py) is generated from the BTF of the built object.
 *
 * A ring record is one of the structs below, then a tail of bytes. Sizes are in pages or
 * bytes as the name says, times are CLOCK_BOOTTIME nanoseconds, pids are of the initial PID
 * namespace. Only fixed-width types, no padding: every hole would be a guess in Python.
 */
#ifndef OTEL_OOM_OOM_H
#define OTEL_OOM_OOM_H

#define OOM_COMM_LEN 16
#define OOM_MEMCGS 20 /* memory cgroups told of, from the victim's own upwards */
#define OOM_ANCESTORS 8 /* of the victim, and as many of the trigger */
#define OOM_PATH_COMPONENTS 32
#define OOM_NAME_LEN 256 /* NAME_MAX and its NUL */
#define OOM_PATH_LEN 4096 /* of a cgroup path at least so much is told */
#define OOM_ARGS_LEN 4096
#define OOM_VARIABLES 256 /* of the environment so many are looked at */
#define OOM_VARIABLE_LEN 2048 /* a variable that is told of is shorter, its NUL included */

enum oom_kind {
	OOM_KIND_MARK = 1,
	OOM_KIND_DELIVERED = 2,
	OOM_KIND_EXITED = 3,
};

enum oom_mark_flag {
	OOM_MARK_KILLED = 1 << 0, /* the kernel counted a kill for this mark */
	OOM_MARK_KILLED_KNOWN = 1 << 1, /* ... and whether it did is known at all */
	OOM_MARK_HAS_VICTIM = 1 << 2, /* the hook gave the task, not a pid alone */
	OOM_MARK_HAS_DECISION = 1 << 3, /* oom_control was seen: decision_* are set */
	OOM_MARK_TRIGGER_KTHREAD = 1 << 4,
	OOM_MARK_PATH_CUT = 1 << 5, /* victim's cgroup path: the root's end is missing */
	OOM_MARK_TRIGGER_PATH_CUT = 1 << 6,
	OOM_MARK_UNTRACKED = 1 << 7, /* table of victims full: no delivery, no exit */
	OOM_MARK_AT_DELIVERY = 1 << 8, /* old kernels: victim's fields as of its SIGKILL */
	OOM_MARK_MEMCG_IS_V1 = 1 << 9,
	OOM_MARK_HAS_MM = 1 << 10, /* memory numbers are set */
};

enum oom_memcg_flag {
	OOM_MEMCG_GROUP = 1 << 0, /* memory.oom.group */
	OOM_MEMCG_LOCKED = 1 << 1, /* cgroup v1 code: an OOM of this memcg's subtree is on */
};

enum oom_delivered_flag {
	OOM_DELIVERED_VARIABLES_UNREADABLE = 1 << 0, /* a page of the environment was not there */
	OOM_DELIVERED_VARIABLES_MORE = 1 << 1, /* it goes on beyond what was looked at */
	OOM_DELIVERED_VARIABLE_LONG = 1 << 2, /* one of ours is too long, and is not told of */
};

/* Starts every record. */
struct oom_header {
	__u64 boot_ns;
	__u64 start_boot_ns; /* of the victim's thread-group leader; with tgid its identity */
	__u32 kind;
	__u32 tgid;
};

struct oom_process {
	__u64 start_boot_ns;
	__u64 rss_pages;
	__u32 tgid;
	__u32 vpid; /* in its own PID namespace */
	char comm[OOM_COMM_LEN];
};

struct oom_memcg {
	__u64 id; /* inode of the cgroup's directory */
	__u64 usage_pages;
	__u64 max_pages;
	__u64 peak_pages;
	__u64 local_oom_kills; /* kills of this cgroup's own processes, after this one */
	__u64 group_kills; /* memory.oom.group kills in its subtree so far */
	__u32 level; /* components of its path */
	__u32 flags; /* enum oom_memcg_flag */
};

/*
 * Tail: tail_len bytes, all that the numbers before it say, in their order: `memcgs` struct
 * oom_memcg, the victim's own first; `ancestors` struct oom_process, the victim's parent first;
 * `trigger_ancestors` more, the trigger's; then the names of the victim's cgroup path from the
 * leaf up, each with its NUL, victim_path_len bytes; and trigger_path_len bytes of the trigger's.
 */
struct oom_mark {
	struct oom_header header;
	__u64 anon_pages;
	__u64 file_pages;
	__u64 shmem_pages;
	__u64 swap_pages;
	__u64 virtual_pages;
	__u64 page_tables_bytes;
	__u64 decision; /* number of the oom_kill_process call */
	__u64 decision_memcg_id; /* whose limit; 0: the host */
	__u64 decision_total_pages;
	__s64 decision_points;
	__u32 decision_constraint; /* enum oom_constraint */
	__s32 decision_order; /* -1: sysrq */
	__u32 decision_gfp;
	__u32 flags; /* enum oom_mark_flag */
	__u32 pid; /* the marked thread; on old kernels all that the hook gives */
	__u32 uid;
	__u32 trigger_tid;
	__s32 score_adj;
	__u32 memcgs;
	__u32 ancestors;
	__u32 trigger_ancestors;
	__u32 victim_path_len;
	__u32 trigger_path_len;
	__u32 tail_len;
	struct oom_process victim;
	struct oom_process trigger;
};

/*
 * SIGKILL reached the victim. Tail: args_len bytes of its command line, NULs between; then
 * variables_len bytes of its environment, of which only OTEL_SERVICE_NAME and
 * OTEL_RESOURCE_ATTRIBUTES are copied, each `NAME=VALUE` with its NUL.
 */
struct oom_delivered {
	struct oom_header header;
	__u32 args_len;
	__u32 args_total; /* length in the process; larger than args_len: cut */
	__u32 variables_len;
	__u32 flags; /* enum oom_delivered_flag */
};

struct oom_exited {
	struct oom_header header;
	__u32 exit_code; /* as wait(2) gives it */
	__u32 reserved;
};

/* Counted in the kernel since the load; one array element that user space maps. */
struct oom_counters {
	__u64 marks; /* mark_victim calls */
	__u64 repeats; /* ... of a process already marked */
	__u64 already_dying; /* ... without a kill */
	__u64 untracked; /* ... while the table of victims was full */
	__u64 lost_marks; /* no room in the ring */
	__u64 lost_delivered;
	__u64 lost_exited;
	__u64 decisions; /* oom_kill_process calls, where it can be hooked */
	__u64 kills; /* __oom_kill_process calls, where it can be hooked */
	__u64 unknown; /* marks of which nothing told whether they were kills */
};

_Static_assert(sizeof(struct oom_header) == 24, "regenerate events.py");
_Static_assert(sizeof(struct oom_process) == 40, "regenerate events.py");
_Static_assert(sizeof(struct oom_memcg) == 56, "regenerate events.py");
_Static_assert(sizeof(struct oom_mark) == 240, "regenerate events.py");
_Static_assert(sizeof(struct oom_delivered) == 40, "regenerate events.py");
_Static_assert(sizeof(struct oom_exited) == 32, "regenerate events.py");
_Static_assert(sizeof(struct oom_counters) == 80, "regenerate events.py");

#endif
