/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* A system call begins: whether it is one of storage, whose, and of which file. */
#ifndef OTEL_OOM_STORAGE_OPERATIONS_CALLS_H
#define OTEL_OOM_STORAGE_OPERATIONS_CALLS_H

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
		deactivate(slot, PHASE_FREE);
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
	activate(slot);
	return 0;
}

#endif
