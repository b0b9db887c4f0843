/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/* Where kernels differ: one function a difference, the present kernel first. */
#ifndef OTEL_OOM_CORE_FIXES_H
#define OTEL_OOM_CORE_FIXES_H

/*
 * "mm: convert mm's rss stats into percpu_counter" (f1a7941243c1, v6.2) made an atomic per
 * counter a percpu_counter each. Its `count` leaves out what the CPUs have not folded yet;
 * the kernel's own "Killed process" line leaves out the same.
 */
#define rss_pages(mm, which)                                                                       \
	({                                                                                         \
		const struct mm_struct___atomic_rss *_old = (const void *)(mm);                    \
		__s64 _pages;                                                                      \
                                                                                                   \
		/* A constant index, for the elements' size is the running kernel's. */            \
		if (bpf_core_field_exists(_old->rss_stat.count))                                   \
			_pages = BPF_CORE_READ(_old, rss_stat.count[which].counter);               \
		else                                                                               \
			_pages = BPF_CORE_READ(mm, rss_stat[which].count);                         \
		_pages > 0 ? (__u64)_pages : 0;                                                    \
	})

/* "kernfs: use RCU to access kernfs_node::parent" (633488947ef6, v6.15) renamed it. */
static __always_inline struct kernfs_node *kernfs_parent(const struct kernfs_node *kn)
{
	const struct kernfs_node___plain_parent *old = (const void *)kn;

	if (bpf_core_field_exists(old->parent))
		return (void *)BPF_CORE_READ(old, parent);
	return BPF_CORE_READ(kn, __parent);
}

/* "mm, memcg: move charge ... cgroup v1 code under a config option" (e93d4166b40a, v6.11). */
static __always_inline bool memcg_oom_locked(const struct mem_cgroup *memcg)
{
	if (bpf_core_field_exists(memcg->oom_lock))
		return BPF_CORE_READ(memcg, oom_lock);
	return false;
}

/*
 * The count came with b6bf9abb0aa4 (v5.17), next to the kills'. Its own index is not asked for:
 * the compiler may move that past the question whether there is one, and then nothing loads.
 */
static __always_inline __u64 memcg_group_kills(const struct mem_cgroup *memcg)
{
	int next = bpf_core_enum_value(enum memcg_memory_event, MEMCG_OOM_KILL) + 1;

	if (bpf_core_enum_value_exists(enum memcg_memory_event, MEMCG_OOM_GROUP_KILL))
		return BPF_CORE_READ(memcg, memory_events[next].counter);
	return 0;
}

/* First argument of a kprobed function. */
static __always_inline void *kprobe_arg1(const void *ctx)
{
	const struct pt_regs___x86 *x86 = ctx;
	const struct user_pt_regs___arm64 *arm64 = ctx;

	if (bpf_core_field_exists(x86->di))
		return (void *)BPF_CORE_READ(x86, di);
	return (void *)BPF_CORE_READ(arm64, regs[0]);
}

/* Second and third argument of a system call, by its registers. */
static __always_inline __u64 syscall_arg2(const void *ctx)
{
	const struct pt_regs___x86 *x86 = ctx;
	const struct user_pt_regs___arm64 *arm64 = ctx;

	if (bpf_core_field_exists(x86->si))
		return BPF_CORE_READ(x86, si);
	return BPF_CORE_READ(arm64, regs[1]);
}

static __always_inline __u64 syscall_arg3(const void *ctx)
{
	const struct pt_regs___x86 *x86 = ctx;
	const struct user_pt_regs___arm64 *arm64 = ctx;

	if (bpf_core_field_exists(x86->dx))
		return BPF_CORE_READ(x86, dx);
	return BPF_CORE_READ(arm64, regs[2]);
}

#endif
