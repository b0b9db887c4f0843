// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/*
 * Storage operations, from the system call to its return, and what they waited for.
 *
 * Where the time of a slow call goes is what its task waits for. So we follow the task, not the
 * request: the scheduler tells when it sleeps, who wakes it and when it runs again; a wake-up
 * inside the completion of a request is that request's doing, and the request itself carries
 * its times. Nothing is looked up by address on the way of a request, and whoever the work was
 * handed to (a journal's thread, a worker of the kernel) is followed one wake-up back.
 *
 * A slot belongs to a task by its tid, and is written by the CPU that runs the task; only the
 * wake-up is written by another, after the sleep and before the run. So nothing is locked.
 *
 * A request that nobody in particular waits for has no wake-up to tell of it. What a task queues
 * while it submits asynchronous I/O is therefore noted by its bio, which is the operation's own
 * from the queue to the end, whatever request it becomes part of.
 */
#include "include/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "include/core_fixes.h"
#include "include/files.h"
#include "include/block.h"
#include "include/exponential.h"
#include "storage_operations.h"

#define MAX_COMMITS 256
#define MAX_WORKERS 1024
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

/* A worker of the kernel that a completion woke, until it sleeps again. */
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
	struct slot *slot = slot_of(tid);

	if (!slot || slot->operation.tid != tid || slot->phase != PHASE_ACTIVE)
		return NULL;
	return slot;
}

static __always_inline struct slot *current_slot(void)
{
	return active_slot((__u32)bpf_get_current_pid_tgid());
}

/* The cgroup that block I/O is accounted to; of v2 the task's own, also without I/O controller. */
static __always_inline __u64 task_cgroup(const struct task_struct *task)
{
	int id = bpf_core_enum_value(enum cgroup_subsys_id, io_cgrp_id);
	const struct cgroup *cgroup = BPF_CORE_READ(task, cgroups, subsys[id], cgroup);

	if (!BPF_CORE_READ(cgroup, root, hierarchy_id)) /* v2 is hierarchy 0 */
		cgroup = BPF_CORE_READ(task, cgroups, dfl_cgrp);
	return BPF_CORE_READ(cgroup, kn, id);
}

static __always_inline bool is_compat(const struct task_struct *task)
{
	const struct task_struct___storage *storage = (const void *)task;

	if (bpf_core_field_exists(storage->thread_info.status))
		return BPF_CORE_READ(storage, thread_info.status) & TS_COMPAT;
	return false;
}

static __always_inline bool waits_for_no_device(__u32 magic)
{
	switch (magic) {
	case PROC_SUPER_MAGIC:
	case SYSFS_MAGIC:
	case CGROUP_SUPER_MAGIC:
	case CGROUP2_SUPER_MAGIC:
	case TMPFS_MAGIC:
	case DEBUGFS_MAGIC:
	case TRACEFS_MAGIC:
	case SECURITYFS_MAGIC:
	case BPF_FS_MAGIC:
		return true;
	}
	return false;
}

/* The file behind a descriptor of the current task; false: none that storage is behind. */
static __always_inline bool fill_file(struct storage_file *ret, const struct task_struct *task,
				      __u32 fd, __u64 *inode_address)
{
	const struct task_struct___storage *storage = (const void *)task;
	const struct fdtable *table = BPF_CORE_READ(storage, files, fdt);
	const struct inode *inode;
	struct file **files, *file = NULL;
	__u32 type;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return false;
	files = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), &files[fd]);
	if (!file)
		return false;
	inode = BPF_CORE_READ(file, f_inode);
	ret->fd = fd;
	ret->inode = BPF_CORE_READ(inode, i_ino);
	ret->mode = BPF_CORE_READ(inode, i_mode);
	ret->magic = BPF_CORE_READ(inode, i_sb, s_magic);
	ret->device = BPF_CORE_READ(inode, i_sb, s_dev);
	*inode_address = (__u64)inode;
	type = ret->mode & S_IFMT;
	if (type == S_IFBLK) {
		ret->device = BPF_CORE_READ(inode, i_rdev);
		return true;
	}
	return (type == S_IFREG || type == S_IFDIR) && !waits_for_no_device(ret->magic);
}

static __always_inline bool has_file(__u32 call)
{
	return call <= STORAGE_CALL_TRUNCATE && call != STORAGE_CALL_SYNC;
}

static __always_inline bool is_sampled(const struct storage_settings *settings, __u32 call)
{
	struct completion *state = bpf_map_lookup_elem(&completions, &zero);
	__u32 every;

	if (!state || call >= STORAGE_CALLS)
		return false;
	every = settings->sample[call];
	if (every <= 1)
		return every;
	return ++state->seen[call] % every == 0;
}

/* Makes the slot of this task its own, empty. */
static __always_inline struct slot *claim(__u32 tid, struct storage_operation_counters *counts)
{
	struct slot *slot = slot_of(tid);
	volatile __u64 *word;
	int i;

	if (!slot)
		return NULL;
	if (slot->phase == PHASE_ACTIVE) {
		if (slot->operation.tid != tid) {
			add(&counts->collided);
			return NULL;
		}
		add(&counts->abandoned); /* its exit was not seen */
	}
	word = (void *)slot;
	NO_UNROLL
	for (i = 0; i < sizeof(*slot) / sizeof(*word); i++)
		word[i] = 0;
	slot->operation.tid = tid;
	add(&counts->tracked);
	slot->operation.number = counts->tracked; /* with the tid, one operation's alone */
	return slot;
}

static __always_inline void fill_task(struct storage_operation *operation,
				      const struct task_struct *task)
{
	operation->tgid = BPF_CORE_READ(task, tgid);
	operation->start_boot_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	operation->cgroup_id = task_cgroup(task);
	bpf_get_current_comm(operation->comm, sizeof(operation->comm));
}

static __always_inline bool has_no_work(long id, const struct pt_regs *regs)
{
	return id == IO_URING_ENTER && !(__u32)syscall_arg2(regs); /* it only waits */
}

/* io_submit of one operation names its file; of several nothing tells which bio is whose. */
static __always_inline __u32 submitted_fd(long id, const struct pt_regs *regs)
{
	__u64 list = syscall_arg3(regs), entry = 0;
	__u32 fd = ~0U;

	if (id == IO_URING_ENTER || syscall_arg2(regs) != 1)
		return fd;
	if (bpf_probe_read_user(&entry, sizeof(entry), (void *)list))
		return fd;
	bpf_probe_read_user(&fd, sizeof(fd), &((struct iocb *)entry)->aio_fildes);
	return fd;
}

SEC("tp_btf/sys_enter")
int BPF_PROG(on_sys_enter, struct pt_regs *regs, long id)
{
	struct storage_settings *settings = bpf_map_lookup_elem(&storage_settings, &zero);
	struct storage_operation_counters *counts = counters();
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct storage_file file = {};
	struct task_struct *task;
	__u64 inode = 0;
	struct slot *slot;
	__u32 call, fd;
	bool has_fd;

	if (!settings || !counts || id < 0 || id >= STORAGE_SYSCALLS)
		return 0;
	call = settings->call_of[id];
	if (!call || !is_sampled(settings, call) || pid_tgid >> 32 == settings->own_tgid)
		return 0;
	task = (void *)bpf_get_current_task();
	if (is_compat(task))
		return 0;
	if (call == STORAGE_CALL_SUBMIT) {
		if (has_no_work(id, regs))
			return 0;
		fd = submitted_fd(id, regs);
	} else {
		fd = (__u32)(__u64)kprobe_arg1(regs);
	}
	has_fd = has_file(call) || (call == STORAGE_CALL_SUBMIT && fd != ~0U);
	if (has_fd && !fill_file(&file, task, fd, &inode)) {
		if (call != STORAGE_CALL_SUBMIT)
			return 0;
		__builtin_memset(&file, 0, sizeof(file));
		inode = 0;
	}
	slot = claim((__u32)pid_tgid, counts);
	if (!slot)
		return 0;
	slot->operation.call = call;
	if (call == STORAGE_CALL_SUBMIT) {
		slot->submitted = file;
		slot->submitted_inode = inode;
	} else {
		slot->operation.file = file;
		slot->inode = inode;
	}
	fill_task(&slot->operation, task);
	slot->operation.at[STORAGE_EVENT_ENTER] = bpf_ktime_get_ns();
	slot->phase = PHASE_ACTIVE;
	return 0;
}

static __always_inline void *found_or_made(void *map, const void *key, const void *value)
{
	void *found = bpf_map_lookup_elem(map, key);

	if (found)
		return found;
	bpf_map_update_elem(map, key, value, BPF_NOEXIST); /* another CPU may be first */
	return bpf_map_lookup_elem(map, key);
}

static __always_inline void count_error(const struct storage_call_key *key, __s64 result,
					struct storage_operation_counters *counts)
{
	struct storage_call_error_key failed = { .key = *key, .error = result };
	__u64 none = 0, *count;

	add(&counts->errors);
	count = found_or_made(&storage_call_errors, &failed, &none);
	if (count)
		add(count);
	else
		add(&counts->lost_errors);
}

/* -EINTR and what stands for it: the call begins again, or was given up by a signal. */
static __always_inline bool is_error(__s64 result)
{
	return result < 0 && result != -EINTR && result > -ERESTARTSYS;
}

static __always_inline void observe(struct storage_call_key key, __u64 ns, __s64 result,
				    struct storage_operation_counters *counts)
{
	struct storage_call_histogram *histogram;

	if (is_error(result))
		count_error(&key, result, counts);
	if (ns > EXPONENTIAL_LONGEST_NS) {
		add(&counts->too_long);
		return;
	}
	histogram = found_or_made(&storage_calls, &key, &empty);
	if (!histogram) {
		add(&counts->overflowed);
		key.cgroup_id = 0;
		key.device = 0;
		histogram = bpf_map_lookup_elem(&storage_calls, &key);
	}
	if (!histogram)
		return;
	__sync_fetch_and_add(&histogram->sum_ns, ns);
	if (ns <= EXPONENTIAL_SHORTEST_NS)
		add(&histogram->zeros);
	else
		__sync_fetch_and_add(
			&histogram->buckets[exponential_bucket(ns) & (STORAGE_CALL_BUCKETS - 1)],
			1);
}

static __always_inline bool is_slow(const struct storage_settings *settings,
				    const struct storage_operation *operation)
{
	__u64 total = operation->at[STORAGE_EVENT_EXIT] - operation->at[STORAGE_EVENT_ENTER];
	int i;

	if (total >= settings->total_ns)
		return true;
	if (total < settings->stage_ns)
		return false;
	NO_UNROLL
	for (i = 0; i < STORAGE_WAITS; i++)
		if (operation->wait[i].run_ns - operation->wait[i].sleep_ns >= settings->stage_ns)
			return true;
	return false;
}

static __always_inline void report(const struct storage_operation *operation,
				   struct storage_operation_counters *counts)
{
	struct commit_key key = { .device = operation->file.device,
				  .transaction = operation->transaction };
	struct storage_report *ret = bpf_ringbuf_reserve(&storage_reports, sizeof(*ret), 0);
	struct storage_operation *commit;

	if (!ret) {
		add(&counts->lost);
		return;
	}
	bpf_probe_read_kernel(&ret->operation, sizeof(ret->operation), operation);
	commit = key.transaction ? bpf_map_lookup_elem(&commits, &key) : NULL;
	if (commit)
		bpf_probe_read_kernel(&ret->commit, sizeof(ret->commit), commit);
	else
		ret->commit.number = 0;
	add(&counts->reported);
	bpf_ringbuf_submit(ret, 0);
}

static __always_inline void finish(struct slot *slot, __s64 result)
{
	struct storage_settings *settings = bpf_map_lookup_elem(&storage_settings, &zero);
	struct storage_operation_counters *counts = counters();
	struct storage_operation *operation = &slot->operation;
	struct storage_call_key key = { .cgroup_id = operation->cgroup_id,
					.device = operation->file.device,
					.call = operation->call };
	__u64 now = bpf_ktime_get_ns();

	if (!settings || !counts)
		return;
	operation->result = result;
	operation->at[STORAGE_EVENT_EXIT] = now;
	slot->phase = PHASE_FREE;
	add(&counts->finished);
	observe(key, now - operation->at[STORAGE_EVENT_ENTER], result, counts);
	if (is_slow(settings, operation))
		report(operation, counts);
}

SEC("tp_btf/sys_exit")
int BPF_PROG(on_sys_exit, struct pt_regs *regs, long result)
{
	struct slot *slot = current_slot();

	if (slot)
		finish(slot, result);
	return 0;
}

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
	slot->phase = PHASE_FREE;
	add(&counts->abandoned);
	return 0;
}

/* ext4: the transaction with the file's last change, which fsync then waits for. */
static __always_inline __u32 ext4_transaction(const struct slot *slot)
{
	const struct ext4_inode_info *info;

	if (slot->operation.file.magic != EXT4_SUPER_MAGIC || !slot->inode)
		return 0;
	if (!bpf_core_type_exists(struct ext4_inode_info))
		return 0;
	info = (void *)(slot->inode - bpf_core_field_offset(struct ext4_inode_info, vfs_inode));
	if (slot->operation.call == STORAGE_CALL_FDATASYNC)
		return BPF_CORE_READ(info, i_datasync_tid);
	return BPF_CORE_READ(info, i_sync_tid);
}

static __always_inline bool is_sync(__u32 call)
{
	return call == STORAGE_CALL_FSYNC || call == STORAGE_CALL_FDATASYNC;
}

static __always_inline void start_wait(struct slot *slot, const struct task_struct *task,
				       bool is_preempted, __u64 now)
{
	const struct task_struct___storage *storage = (const void *)task;
	struct storage_wait *wait = &slot->wait;

	__builtin_memset(wait, 0, sizeof(*wait));
	wait->queue_ns = slot->last_bio_ns;
	if (is_preempted)
		wait->cause = STORAGE_CAUSE_PREEMPTED;
	if (BPF_CORE_READ_BITFIELD_PROBED(storage, in_iowait))
		wait->flags |= STORAGE_WAIT_IO;
	if (slot->is_forcing_log)
		wait->flags |= STORAGE_WAIT_LOG;
	if (slot->last_bio_ns > slot->last_getrq_ns)
		wait->flags |= STORAGE_WAIT_QUEUED;
	if (is_sync(slot->operation.call))
		slot->operation.transaction = ext4_transaction(slot);
	wait->sleep_ns = now;
}

/* Keeps the wait in place of the shortest, if that is shorter. */
static __always_inline void keep_wait(struct storage_operation *operation,
				      const struct storage_wait *wait, __u64 length)
{
	__u64 shortest = length;
	int i, place = -1;

	NO_UNROLL
	for (i = 0; i < STORAGE_WAITS; i++) {
		__u64 kept = operation->wait[i].run_ns - operation->wait[i].sleep_ns;

		if (kept < shortest) {
			shortest = kept;
			place = i;
		}
	}
	if (place >= 0 && place < STORAGE_WAITS)
		bpf_probe_read_kernel(&operation->wait[place], sizeof(*wait), wait);
}

static __always_inline void end_wait(struct slot *slot, __u64 now)
{
	struct storage_operation *operation = &slot->operation;
	struct storage_wait *wait = &slot->wait;
	__u32 cause = wait->cause;

	wait->run_ns = now;
	operation->waits++;
	if (cause < STORAGE_CAUSES)
		operation->waited_ns[cause] += now - wait->sleep_ns;
	if (cause == STORAGE_CAUSE_PREEMPTED)
		operation->runnable_ns += now - wait->sleep_ns;
	else if (wait->waking_ns)
		operation->runnable_ns += now - wait->waking_ns;
	keep_wait(operation, wait, now - wait->sleep_ns);
	wait->sleep_ns = 0;
	slot->is_throttled = 0;
}

/* A worker that goes to sleep has done what the completion woke it for. */
static __always_inline void forget_worker(const struct task_struct *task, __u32 tid)
{
	__u32 index = tid % MAX_WORKERS;
	struct worker *worker;

	if (!(BPF_CORE_READ(task, flags) & PF_WQ_WORKER))
		return;
	worker = bpf_map_lookup_elem(&workers, &index);
	if (worker && worker->tid == tid)
		worker->tid = 0;
}

SEC("tp_btf/sched_switch")
int BPF_PROG(on_sched_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	struct slot *slot = active_slot(prev->pid);

	if (slot)
		start_wait(slot, prev, preempt, bpf_ktime_get_ns());
	else if (!preempt)
		forget_worker(prev, prev->pid);
	slot = active_slot(next->pid);
	if (slot && slot->wait.sleep_ns)
		end_wait(slot, bpf_ktime_get_ns());
	return 0;
}

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

/* Half of a pointer is a number that the verifier lets us compute with. */
static __always_inline __u32 low_half(const void *pointer)
{
	__u32 low;

	asm volatile("%0 = %1" : "=w"(low) : "w"((__u32)(__u64)pointer));
	return low;
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
	complete(state, rq, bytes);
	if (error)
		state->request.flags |= STORAGE_REQUEST_ERROR;
	if (in_flight)
		finish_bios(state, rq, error, bytes);
	return 0;
}

/* After its completion has told everybody (v6.5, and backports); a flush's comes before. */
SEC("tp_btf/block_io_done")
int BPF_PROG(on_request_done, struct request *rq)
{
	struct completion *state = bpf_map_lookup_elem(&completions, &zero);

	if (state && (rq->cmd_flags & REQ_OP_MASK) != REQ_OP_FLUSH)
		state->is_open = 0;
	return 0;
}

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

static __always_inline int on_event(enum storage_event event, bool keep_first)
{
	struct slot *slot = current_slot();

	if (!slot)
		return 0;
	slot->is_forcing_log = event == STORAGE_EVENT_LOG_FORCE;
	if (!keep_first || !slot->operation.at[event])
		slot->operation.at[event] = bpf_ktime_get_ns();
	return 0;
}

SEC("tp_btf/mm_filemap_add_to_page_cache")
int BPF_PROG(on_cache_miss)
{
	struct slot *slot = current_slot();

	if (!slot)
		return 0;
	slot->operation.cache_misses++;
	if (!slot->operation.at[STORAGE_EVENT_CACHE_MISS])
		slot->operation.at[STORAGE_EVENT_CACHE_MISS] = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int on_dirty_pause(long pause)
{
	struct slot *slot = current_slot();

	if (slot && pause > 0)
		slot->is_throttled = 1;
	return 0;
}

/* "writeback: simplify writeback tracepoints" and others: the pause moves with the arguments. */
SEC("tp_btf/balance_dirty_pages")
int on_dirty_throttle(__u64 *ctx)
{
	return on_dirty_pause(ctx[6]);
}

SEC("tp_btf/balance_dirty_pages")
int on_dirty_throttle_of_12(__u64 *ctx)
{
	return on_dirty_pause(ctx[10]);
}

static __always_inline int on_reclaim_begin(void)
{
	struct slot *slot = current_slot();

	if (slot && !slot->in_reclaim++)
		slot->reclaim_start_ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline int on_reclaim_end(void)
{
	struct slot *slot = current_slot();

	if (slot && slot->in_reclaim && !--slot->in_reclaim)
		slot->operation.reclaim_ns += bpf_ktime_get_ns() - slot->reclaim_start_ns;
	return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int BPF_PROG(on_direct_reclaim_begin)
{
	return on_reclaim_begin();
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int BPF_PROG(on_direct_reclaim_end)
{
	return on_reclaim_end();
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int BPF_PROG(on_memcg_reclaim_begin)
{
	return on_reclaim_begin();
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int BPF_PROG(on_memcg_reclaim_end)
{
	return on_reclaim_end();
}

SEC("tp_btf/ext4_sync_file_enter")
int BPF_PROG(on_ext4_sync_enter)
{
	return on_event(STORAGE_EVENT_FS_ENTER, true);
}

SEC("tp_btf/ext4_sync_file_exit")
int BPF_PROG(on_ext4_sync_exit)
{
	return on_event(STORAGE_EVENT_FS_EXIT, false);
}

SEC("tp_btf/ext4_writepages")
int BPF_PROG(on_ext4_writepages)
{
	return on_event(STORAGE_EVENT_WRITEBACK, true);
}

SEC("tp_btf/ext4_writepages_result")
int BPF_PROG(on_ext4_writepages_result)
{
	return on_event(STORAGE_EVENT_WRITEBACK_END, false);
}

SEC("tp_btf/xfs_file_fsync")
int BPF_PROG(on_xfs_fsync)
{
	return on_event(STORAGE_EVENT_FS_ENTER, true);
}

SEC("tp_btf/xfs_log_force")
int BPF_PROG(on_xfs_log_force)
{
	return on_event(STORAGE_EVENT_LOG_FORCE, true);
}

SEC("tp_btf/btrfs_sync_file")
int BPF_PROG(on_btrfs_sync)
{
	return on_event(STORAGE_EVENT_FS_ENTER, true);
}

/* A commit is an operation of the journal's thread. */
SEC("tp_btf/jbd2_start_commit")
int BPF_PROG(on_commit_start, struct journal_s *journal, struct transaction_s *transaction)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 tid = (__u32)bpf_get_current_pid_tgid();
	struct storage_operation_counters *counts = counters();
	struct slot *slot;

	if (!counts)
		return 0;
	slot = claim(tid, counts);
	if (!slot)
		return 0;
	fill_task(&slot->operation, task);
	slot->operation.call = STORAGE_CALL_COMMIT;
	slot->operation.transaction = BPF_CORE_READ(transaction, t_tid);
	slot->operation.file.device = BPF_CORE_READ(journal, j_fs_dev, bd_dev);
	slot->operation.at[STORAGE_EVENT_ENTER] = bpf_ktime_get_ns();
	slot->phase = PHASE_ACTIVE;
	return 0;
}

SEC("tp_btf/jbd2_commit_locking")
int BPF_PROG(on_commit_locking)
{
	return on_event(STORAGE_EVENT_COMMIT_LOCKING, true);
}

SEC("tp_btf/jbd2_commit_flushing")
int BPF_PROG(on_commit_flushing)
{
	return on_event(STORAGE_EVENT_COMMIT_FLUSHING, true);
}

SEC("tp_btf/jbd2_commit_logging")
int BPF_PROG(on_commit_logging)
{
	return on_event(STORAGE_EVENT_COMMIT_LOGGING, true);
}

SEC("tp_btf/jbd2_end_commit")
int BPF_PROG(on_commit_end)
{
	struct storage_operation_counters *counts = counters();
	struct slot *slot = current_slot();
	struct commit_key key;

	if (!slot || !counts)
		return 0;
	slot->operation.at[STORAGE_EVENT_EXIT] = bpf_ktime_get_ns();
	slot->phase = PHASE_COMMITTED;
	add(&counts->finished);
	key.device = slot->operation.file.device;
	key.transaction = slot->operation.transaction;
	bpf_map_update_elem(&commits, &key, &slot->operation, BPF_ANY);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
