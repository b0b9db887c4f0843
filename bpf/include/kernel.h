/* SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only */
/*
 * The kernel's types, as far as our programs read them. Offsets are not these: every access
 * is a CO-RE relocation that libbpf resolves against the running kernel's BTF, by struct and
 * field name. A suffix after three underscores is a flavour of the same struct, for kernels
 * where a field has another name or type.
 */
#ifndef OTEL_OOM_KERNEL_H
#define OTEL_OOM_KERNEL_H

typedef unsigned char __u8;
typedef short int __s16;
typedef unsigned short __u16;
typedef int __s32;
typedef unsigned int __u32;
typedef long long int __s64;
typedef unsigned long long __u64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;

#define true 1
#define false 0
#define NULL ((void *)0)

enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_QUEUE = 22,
	BPF_MAP_TYPE_RINGBUF = 27,
};

enum {
	BPF_ANY = 0,
	BPF_NOEXIST = 1,
};

enum {
	BPF_F_MMAPABLE = 1024,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	long counter;
} atomic_long_t;

typedef struct {
	__u32 val;
} kuid_t;

struct pid_namespace;

struct upid { /* whole, because an array of it is indexed at run time */
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct percpu_counter {
	__s64 count;
};

struct mm_struct {
	struct percpu_counter rss_stat[4];
	unsigned long total_vm;
	atomic_long_t pgtables_bytes;
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long env_start;
	unsigned long env_end;
};

struct mm_rss_stat {
	atomic_long_t count[4];
};

/* Before "mm: convert mm's rss stats into percpu_counter" (f1a7941243c1, v6.2). */
struct mm_struct___atomic_rss {
	struct mm_rss_stat rss_stat;
};

struct signal_struct {
	atomic_t live;
	struct pid *pids[4];
	int group_exit_code;
	unsigned int flags;
	short oom_score_adj;
	struct mm_struct *oom_mm;
};

struct kernfs_node {
	struct kernfs_node *__parent;
	const char *name;
	__u64 id;
};

/* Before "kernfs: use RCU to access kernfs_node::parent" (633488947ef6, v6.15). */
struct kernfs_node___plain_parent {
	struct kernfs_node___plain_parent *parent;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
	__u64 serial_nr;
};

struct page_counter {
	atomic_long_t usage;
	unsigned long watermark;
	unsigned long max;
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
	atomic_long_t memory_events[9];
	atomic_long_t memory_events_local[9];
	bool oom_group;
	bool oom_lock; /* CONFIG_MEMCG_V1 (e93d4166b40a, v6.11) or an older kernel */
};

struct css_set {
	struct cgroup_subsys_state *subsys[16];
	struct cgroup *dfl_cgrp; /* of the v2 hierarchy */
};

struct cred {
	kuid_t uid;
};

struct task_struct {
	unsigned int flags;
	int pid;
	int tgid;
	int exit_code;
	char comm[16];
	__u64 start_boottime;
	struct task_struct *real_parent;
	struct task_struct *group_leader;
	struct mm_struct *mm;
	struct signal_struct *signal;
	struct css_set *cgroups;
	const struct cred *cred;
};

enum oom_constraint {
	CONSTRAINT_NONE = 0,
};

struct oom_control {
	struct mem_cgroup *memcg;
	unsigned int gfp_mask;
	int order;
	unsigned long totalpages;
	long chosen_points;
	enum oom_constraint constraint;
};

struct kernel_siginfo;
struct k_sigaction;

/* kprobes and system calls: the registers that carry the first arguments, by architecture. */
struct pt_regs___x86 {
	unsigned long di;
	unsigned long si;
	unsigned long dx;
};

struct user_pt_regs___arm64 {
	__u64 regs[31];
};

enum cgroup_subsys_id {
	io_cgrp_id = 1,
	memory_cgrp_id = 0, /* the value is relocated: it depends on the kernel's config */
};

enum memcg_memory_event {
	MEMCG_OOM_KILL = 0,
	MEMCG_OOM_GROUP_KILL = 1, /* b6bf9abb0aa4, v5.17 */
};

#pragma clang attribute pop

#define EINTR 4
#define EIO 5
#define EEXIST 17
#define ERESTARTSYS 512

#define PF_KTHREAD 0x00200000
#define SIGNAL_GROUP_EXIT 0x00000004
#define SIGKILL 9
#define PIDTYPE_TGID 1

enum rss_counter {
	RSS_FILE = 0,
	RSS_ANON = 1,
	RSS_SWAP = 2,
	RSS_SHMEM = 3,
};

#endif
