// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/*
 * OOM kills, from the decision to the victim's death.
 *
 * The base is tp_btf/mark_victim, which fires once for each process that the kernel kills for
 * memory, on every kernel from 5.8 and without kprobes; it comes in two forms, of which user
 * space loads the one that the kernel's BTF has. `current` there is whoever asked for memory,
 * not the victim. tp_btf/signal_deliver runs in the victim's own context with its memory
 * intact: the one place where its command line can be read without a race.
 * oom_kill_process and __oom_kill_process are static functions; where they can be hooked they
 * add the oom_control (constraint, limit's owner, order, gfp) and tell kill from mark.
 *
 * The kernel holds oom_lock over all that happens in one decision, marks included, so `state`
 * has one writer at a time.
 */
#include "include/kernel.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>
#include "include/core_fixes.h"
#include "oom.h"

#define MAX_VICTIMS 8192
#define ENTRIES_LEN                                                                                \
	(OOM_MEMCGS * sizeof(struct oom_memcg) + 2 * OOM_ANCESTORS * sizeof(struct oom_process))
#define TAIL_LEN (ENTRIES_LEN + 2 * OOM_PATH_LEN)
#define DELIVERED_LEN (OOM_ARGS_LEN + 2 * OOM_VARIABLE_LEN)
#define NO_UNROLL _Pragma("clang loop unroll(disable)")
#define UNROLL _Pragma("clang loop unroll(full)")

/* What the hooks before the mark leave for it. */
struct decision {
	__u64 number;
	__u64 memcg_id;
	__u64 total_pages;
	__s64 points;
	__u32 constraint;
	__s32 order;
	__u32 gfp;
	__u32 open; /* between entry and return of oom_kill_process */
	__u32 kill_hooked; /* no __oom_kill_process goes unseen */
	__u32 killing_tgid; /* its victim, until marked */
	__u64 killing_task;
};

struct scratch {
	struct oom_mark mark;
	char tail[TAIL_LEN + OOM_NAME_LEN]; /* the last name begins before TAIL_LEN */
};

struct delivered_scratch {
	struct oom_delivered delivered;
	char tail[DELIVERED_LEN + OOM_VARIABLE_LEN]; /* the last variable begins before it */
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20); /* user space sets its own */
} oom_events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct oom_counters);
} oom_counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct decision);
} state SEC(".maps");

/*
 * tgid to start time: who was marked and has not died; who has taken its SIGKILL. A victim may
 * take it on another CPU while its mark is still being written, so neither waits for the other.
 * awaiting_victim: pids that an old kernel marked, whose task is not known yet.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_VICTIMS);
	__type(key, __u32);
	__type(value, __u64);
} awaiting_exit SEC(".maps"), delivered SEC(".maps"), awaiting_victim SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} mark_scratch SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct delivered_scratch);
} delivered_scratch SEC(".maps");

/* memcg id to its own kills at the last mark, or as user space read them at the load. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_VICTIMS);
	__type(key, __u64);
	__type(value, __u64);
} memcg_kills SEC(".maps");

/* Keeps the records in the object's BTF, from which Python's view is made. */
const struct oom_mark *_anchor_mark __attribute__((unused));
const struct oom_memcg *_anchor_memcg __attribute__((unused));
const struct oom_delivered *_anchor_delivered __attribute__((unused));
const struct oom_exited *_anchor_exited __attribute__((unused));
const enum oom_kind *_anchor_kind __attribute__((unused));
const enum oom_mark_flag *_anchor_mark_flag __attribute__((unused));
const enum oom_memcg_flag *_anchor_memcg_flag __attribute__((unused));
const enum oom_delivered_flag *_anchor_delivered_flag __attribute__((unused));

static const __u32 zero;

static __always_inline struct oom_counters *counters(void)
{
	return bpf_map_lookup_elem(&oom_counters, &zero);
}

static __always_inline void add(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

/* The compiler's memset is a call beyond some size, which BPF has not. */
static __always_inline void clear(struct oom_mark *mark)
{
	volatile __u64 *word = (void *)mark;
	int i;

	NO_UNROLL
	for (i = 0; i < sizeof(*mark) / sizeof(*word); i++)
		word[i] = 0;
}

/*
 * Where the tail ends. It is kept in memory alone: of what is read from there the verifier knows
 * nothing but what the reader checks, and so need not follow each length that it can have.
 */
static __always_inline __u64 tail_end(const struct scratch *scratch)
{
	return *(const volatile __u32 *)&scratch->mark.tail_len;
}

/* Room for one more entry of the tail. */
static __always_inline void *append(struct scratch *scratch, __u32 size)
{
	__u64 at = tail_end(scratch);

	if (at > ENTRIES_LEN - size)
		return NULL;
	scratch->mark.tail_len = at + size;
	return &scratch->tail[at];
}

static __always_inline struct mem_cgroup *task_memcg(const struct task_struct *task)
{
	int id = bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id);
	struct cgroup_subsys_state *css;

	css = BPF_CORE_READ(task, cgroups, subsys[id]);
	return (struct mem_cgroup *)css; /* css is its first member */
}

static __always_inline void fill_process(struct oom_process *process,
					 const struct task_struct *task)
{
	const struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	const struct mm_struct *mm = BPF_CORE_READ(task, mm);
	const struct pid *pid = BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]);
	unsigned int level = BPF_CORE_READ(pid, level);

	process->tgid = BPF_CORE_READ(task, tgid);
	process->start_boot_ns = BPF_CORE_READ(leader, start_boottime);
	__builtin_memset(process->comm, 0, sizeof(process->comm)); /* the tail has older ones */
	bpf_core_read_str(process->comm, sizeof(process->comm), &leader->comm);
	process->vpid = BPF_CORE_READ(pid, numbers[level].nr);
	process->rss_pages = 0;
	if (mm)
		process->rss_pages = rss_pages(mm, RSS_FILE) + rss_pages(mm, RSS_ANON) +
				     rss_pages(mm, RSS_SHMEM);
}

/* Appends them, the parent first; returns how many. */
static __always_inline __u32 append_ancestors(struct scratch *scratch,
					      const struct task_struct *task)
{
	struct oom_process *ancestor;
	int i;

	NO_UNROLL
	for (i = 0; i < OOM_ANCESTORS; i++) {
		task = BPF_CORE_READ(task, real_parent);
		if (!task || !BPF_CORE_READ(task, tgid))
			break;
		ancestor = append(scratch, sizeof(*ancestor));
		if (!ancestor)
			break;
		fill_process(ancestor, task);
	}
	return i;
}

static __always_inline void fill_memory(struct oom_mark *mark, const struct task_struct *task)
{
	const struct mm_struct *mm = BPF_CORE_READ(task, mm);

	if (!mm)
		return;
	mark->flags |= OOM_MARK_HAS_MM;
	mark->anon_pages = rss_pages(mm, RSS_ANON);
	mark->file_pages = rss_pages(mm, RSS_FILE);
	mark->shmem_pages = rss_pages(mm, RSS_SHMEM);
	mark->swap_pages = rss_pages(mm, RSS_SWAP);
	mark->virtual_pages = BPF_CORE_READ(mm, total_vm);
	mark->page_tables_bytes = BPF_CORE_READ(mm, pgtables_bytes.counter);
}

static __always_inline void fill_memcg(struct oom_memcg *ret, const struct mem_cgroup *memcg)
{
	int oom_kill = bpf_core_enum_value(enum memcg_memory_event, MEMCG_OOM_KILL);
	const struct cgroup *cgroup = BPF_CORE_READ(memcg, css.cgroup);

	ret->id = BPF_CORE_READ(cgroup, kn, id);
	ret->level = BPF_CORE_READ(cgroup, level);
	ret->usage_pages = BPF_CORE_READ(memcg, memory.usage.counter);
	ret->max_pages = BPF_CORE_READ(memcg, memory.max);
	ret->peak_pages = BPF_CORE_READ(memcg, memory.watermark);
	ret->local_oom_kills = BPF_CORE_READ(memcg, memory_events_local[oom_kill].counter);
	ret->group_kills = memcg_group_kills(memcg);
	ret->flags = 0;
	if (BPF_CORE_READ(memcg, oom_group))
		ret->flags |= OOM_MEMCG_GROUP;
	if (memcg_oom_locked(memcg))
		ret->flags |= OOM_MEMCG_LOCKED;
}

/* Appends them, the given one first; returns how many. */
static __always_inline __u32 append_memcgs(struct scratch *scratch, const struct mem_cgroup *memcg)
{
	struct oom_memcg *ret;
	int i;

	NO_UNROLL
	for (i = 0; i < OOM_MEMCGS && memcg; i++) {
		ret = append(scratch, sizeof(*ret));
		if (!ret)
			break;
		fill_memcg(ret, memcg);
		memcg = (struct mem_cgroup *)BPF_CORE_READ(memcg, css.parent);
	}
	return i;
}

/*
 * Appends the names from the leaf up, without the root's, while the tail ends before `limit`;
 * returns their bytes.
 */
static __always_inline __u32 append_path(struct scratch *scratch, __u32 limit,
					 const struct mem_cgroup *memcg, __u32 cut_flag)
{
	const struct kernfs_node *kn = BPF_CORE_READ(memcg, css.cgroup, kn);
	__u32 start = tail_end(scratch);
	const struct kernfs_node *parent;
	long copied;
	__u64 at;
	int i;

	NO_UNROLL
	for (i = 0; i < OOM_PATH_COMPONENTS; i++) {
		parent = kernfs_parent(kn);
		if (!parent)
			return tail_end(scratch) - start;
		at = tail_end(scratch);
		if (at >= limit)
			break;
		copied = bpf_probe_read_kernel_str(&scratch->tail[at], OOM_NAME_LEN,
						   BPF_CORE_READ(kn, name));
		if (copied <= 0 || copied > OOM_NAME_LEN)
			break;
		scratch->mark.tail_len = at + copied;
		kn = parent;
	}
	scratch->mark.flags |= cut_flag;
	return tail_end(scratch) - start;
}

/*
 * mark_oom_victim also runs for a process that is dying anyway (task_will_free_mem), without
 * a kill. The hook on __oom_kill_process tells; without it the count of the victim's memcg
 * does, which moves before the mark and under the same lock. User space seeds what the memcgs
 * counted before the load; a memcg made since starts from 0. The root's cannot be read there.
 */
static __always_inline void tell_kill(struct scratch *scratch, struct decision *decision,
				      struct oom_counters *counts)
{
	const struct oom_memcg *own = (void *)scratch->tail;
	struct oom_mark *mark = &scratch->mark;
	__u64 *seen = mark->memcgs ? bpf_map_lookup_elem(&memcg_kills, &own->id) : NULL;
	__u64 before = seen ? *seen : 0;

	if (decision->kill_hooked) {
		mark->flags |= OOM_MARK_KILLED_KNOWN;
		if (decision->killing_tgid == mark->header.tgid)
			mark->flags |= OOM_MARK_KILLED;
	} else if (seen || (mark->memcgs && own->level)) {
		mark->flags |= OOM_MARK_KILLED_KNOWN;
		if (own->local_oom_kills != before)
			mark->flags |= OOM_MARK_KILLED;
	}
	if (mark->memcgs)
		bpf_map_update_elem(&memcg_kills, &own->id, &own->local_oom_kills, BPF_ANY);
	decision->killing_tgid = 0;
	decision->killing_task = 0;
	if (!(mark->flags & OOM_MARK_KILLED_KNOWN))
		add(&counts->unknown);
	else if (!(mark->flags & OOM_MARK_KILLED))
		add(&counts->already_dying);
}

static __always_inline void fill_decision(struct oom_mark *mark, const struct decision *decision)
{
	if (!decision->open)
		return;
	mark->flags |= OOM_MARK_HAS_DECISION;
	mark->decision = decision->number;
	mark->decision_memcg_id = decision->memcg_id;
	mark->decision_total_pages = decision->total_pages;
	mark->decision_points = decision->points;
	mark->decision_constraint = decision->constraint;
	mark->decision_order = decision->order;
	mark->decision_gfp = decision->gfp;
}

static __always_inline void fill_trigger(struct oom_mark *mark, const struct task_struct *trigger)
{
	fill_process(&mark->trigger, trigger);
	mark->trigger_tid = BPF_CORE_READ(trigger, pid);
	if (BPF_CORE_READ(trigger, flags) & PF_KTHREAD)
		mark->flags |= OOM_MARK_TRIGGER_KTHREAD;
}

static __always_inline void fill_victim(struct scratch *scratch, const struct task_struct *victim)
{
	struct mem_cgroup *memcg = task_memcg(victim);
	struct oom_mark *mark = &scratch->mark;

	mark->flags |= OOM_MARK_HAS_VICTIM;
	fill_process(&mark->victim, victim);
	mark->header.tgid = mark->victim.tgid;
	mark->header.start_boot_ns = mark->victim.start_boot_ns;
	mark->uid = BPF_CORE_READ(victim, cred, uid.val);
	mark->score_adj = BPF_CORE_READ(victim, signal, oom_score_adj);
	fill_memory(mark, victim);
	mark->memcgs = append_memcgs(scratch, memcg);
	mark->ancestors = append_ancestors(scratch, victim);
	if (BPF_CORE_READ(memcg, css.cgroup, root, hierarchy_id))
		mark->flags |= OOM_MARK_MEMCG_IS_V1;
}

/* Enters the victim in the tables; false if it is there already: a mark repeated. */
static __always_inline bool track(struct oom_mark *mark, const struct task_struct *victim,
				  struct oom_counters *counts)
{
	__u32 id = mark->pid;
	__u64 start = 0, *known;
	long failed;

	if (victim) {
		id = BPF_CORE_READ(victim, tgid);
		start = BPF_CORE_READ(victim, group_leader, start_boottime);
	}
	known = bpf_map_lookup_elem(&awaiting_exit, &id);
	if (known && (*known == start || !start)) {
		add(&counts->repeats);
		return false;
	}
	if (victim)
		failed = bpf_map_update_elem(&awaiting_exit, &id, &start, BPF_ANY);
	else
		failed = bpf_map_update_elem(&awaiting_victim, &id, &start, BPF_NOEXIST);
	if (failed == -EEXIST) {
		add(&counts->repeats);
		return false;
	}
	if (failed) {
		add(&counts->untracked);
		mark->flags |= OOM_MARK_UNTRACKED;
	}
	return true;
}

static __always_inline void emit_mark(struct scratch *scratch, struct oom_counters *counts,
				      const struct task_struct *victim,
				      const struct task_struct *trigger)
{
	struct oom_mark *mark = &scratch->mark;
	bool is_other = trigger && mark->trigger.tgid != mark->header.tgid;
	__u64 len;

	if (is_other)
		mark->trigger_ancestors = append_ancestors(scratch, trigger);
	if (victim)
		mark->victim_path_len = append_path(scratch, ENTRIES_LEN + OOM_PATH_LEN,
						    task_memcg(victim), OOM_MARK_PATH_CUT);
	if (is_other)
		mark->trigger_path_len = append_path(scratch, TAIL_LEN, task_memcg(trigger),
						     OOM_MARK_TRIGGER_PATH_CUT);
	len = tail_end(scratch);
	if (len > sizeof(scratch->tail) ||
	    bpf_ringbuf_output(&oom_events, scratch, sizeof(*mark) + len, 0))
		add(&counts->lost_marks);
}

static __always_inline int on_mark(const struct task_struct *victim, __u32 pid)
{
	struct task_struct *trigger = (void *)bpf_get_current_task();
	struct scratch *scratch = bpf_map_lookup_elem(&mark_scratch, &zero);
	struct decision *decision = bpf_map_lookup_elem(&state, &zero);
	struct oom_counters *counts = counters();
	struct oom_mark *mark;

	if (!scratch || !decision || !counts)
		return 0;
	add(&counts->marks);
	mark = &scratch->mark;
	clear(mark);
	mark->header.kind = OOM_KIND_MARK;
	mark->header.boot_ns = bpf_ktime_get_boot_ns();
	mark->header.tgid = pid;
	mark->pid = pid;
	if (!track(mark, victim, counts)) /* first: the victim is on its way */
		return 0;
	if (victim)
		fill_victim(scratch, victim);
	tell_kill(scratch, decision, counts);
	fill_decision(mark, decision);
	fill_trigger(mark, trigger);
	emit_mark(scratch, counts, victim, trigger);
	return 0;
}

/* "mm: add tracepoint to mark_victim" as extended by 72ba14deb40a (v6.9, and backports). */
SEC("tp_btf/mark_victim")
int BPF_PROG(on_mark_victim, struct task_struct *victim, __u32 uid)
{
	return on_mark(victim, BPF_CORE_READ(victim, pid));
}

/*
 * Before it: a thread's id only. The task is known if __oom_kill_process could be hooked;
 * else the victim's own fields follow when its SIGKILL is delivered.
 */
SEC("tp_btf/mark_victim")
int BPF_PROG(on_mark_victim_pid, int pid)
{
	struct decision *decision = bpf_map_lookup_elem(&state, &zero);

	if (decision && decision->killing_task)
		return on_mark((struct task_struct *)decision->killing_task, pid);
	return on_mark(NULL, pid);
}

static __always_inline int on_decision(const struct oom_control *oc)
{
	struct decision *decision = bpf_map_lookup_elem(&state, &zero);
	struct oom_counters *counts = counters();

	if (!decision || !counts)
		return 0;
	add(&counts->decisions);
	decision->number = counts->decisions;
	decision->memcg_id = 0;
	if (BPF_CORE_READ(oc, memcg))
		decision->memcg_id = BPF_CORE_READ(oc, memcg, css.cgroup, kn, id);
	decision->total_pages = BPF_CORE_READ(oc, totalpages);
	decision->points = BPF_CORE_READ(oc, chosen_points);
	decision->constraint = BPF_CORE_READ(oc, constraint);
	decision->order = BPF_CORE_READ(oc, order);
	decision->gfp = BPF_CORE_READ(oc, gfp_mask);
	decision->killing_task = 0;
	decision->killing_tgid = 0;
	decision->kill_hooked = 1; /* probe.py attaches that hook before this one */
	decision->open = 1;
	return 0;
}

static __always_inline int on_decided(void)
{
	struct decision *decision = bpf_map_lookup_elem(&state, &zero);

	if (!decision)
		return 0;
	decision->open = 0;
	/* A group's first victim is killed twice and marked once: what is left is stale. */
	decision->killing_task = 0;
	decision->killing_tgid = 0;
	return 0;
}

static __always_inline int on_kill(const struct task_struct *victim)
{
	struct decision *decision = bpf_map_lookup_elem(&state, &zero);
	struct oom_counters *counts = counters();

	if (!decision || !counts)
		return 0;
	add(&counts->kills);
	decision->kill_hooked = 1;
	decision->killing_task = (__u64)victim;
	decision->killing_tgid = BPF_CORE_READ(victim, tgid);
	return 0;
}

SEC("fentry/oom_kill_process")
int BPF_PROG(on_oom_kill_process, struct oom_control *oc)
{
	return on_decision(oc);
}

SEC("fexit/oom_kill_process")
int BPF_PROG(on_oom_kill_process_return)
{
	return on_decided();
}

SEC("fentry/__oom_kill_process")
int BPF_PROG(on_oom_kill_one, struct task_struct *victim)
{
	return on_kill(victim);
}

SEC("kprobe/oom_kill_process")
int on_oom_kill_process_kprobe(void *ctx)
{
	return on_decision(kprobe_arg1(ctx));
}

SEC("kretprobe/oom_kill_process")
int on_oom_kill_process_kretprobe(void *ctx)
{
	return on_decided();
}

SEC("kprobe/__oom_kill_process")
int on_oom_kill_one_kprobe(void *ctx)
{
	return on_kill(kprobe_arg1(ctx));
}

static __always_inline void fill_args(struct delivered_scratch *scratch, const struct mm_struct *mm)
{
	__u64 start = BPF_CORE_READ(mm, arg_start);
	__u64 len = BPF_CORE_READ(mm, arg_end) - start;

	scratch->delivered.args_total = len;
	barrier_var(len); /* or the compiler checks a copy of it */
	if (len > OOM_ARGS_LEN)
		len = OOM_ARGS_LEN;
	if (bpf_probe_read_user(scratch->tail, len, (void *)start))
		len = 0;
	scratch->delivered.args_len = len;
	scratch->delivered.variables_len = 0;
	scratch->delivered.flags = 0;
}

/* Where the tail ends; as tail_end, for the same reason. */
static __always_inline __u64 delivered_end(const struct delivered_scratch *scratch)
{
	const volatile struct oom_delivered *delivered = &scratch->delivered;

	return (__u64)delivered->args_len + delivered->variables_len;
}

/* Without an early return, or clang makes a call of memcmp of it, which BPF has not. */
static __always_inline bool starts_with(const char *text, const char *name, int len)
{
	char differ = 0;
	int i;

	UNROLL
	for (i = 0; i < len; i++)
		differ |= text[i] ^ name[i];
	return !differ;
}

#define STARTS_WITH(text, name) starts_with(text, name, sizeof(name) - 1)

/* A variable that may be told of: an environment holds secrets, too. */
static __always_inline bool is_ours(const char *variable)
{
	return STARTS_WITH(variable, "OTEL_SERVICE_NAME=") ||
	       STARTS_WITH(variable, "OTEL_RESOURCE_ATTRIBUTES=");
}

/*
 * Each variable is copied over the one before it, unless that was ours. One that is too long comes
 * in pieces, of which only the first can have its name.
 */
static __always_inline void append_variables(struct delivered_scratch *scratch,
					     const struct mm_struct *mm)
{
	__u64 from = BPF_CORE_READ(mm, env_start);
	__u64 end = BPF_CORE_READ(mm, env_end);
	__u64 at;
	struct oom_delivered *ret = &scratch->delivered;
	bool is_start = true, is_whole;
	long copied;
	int i;

	NO_UNROLL
	for (i = 0; i < OOM_VARIABLES; i++) {
		at = delivered_end(scratch);
		if (from >= end || at >= DELIVERED_LEN)
			break;
		copied =
			bpf_probe_read_user_str(&scratch->tail[at], OOM_VARIABLE_LEN, (void *)from);
		if (copied <= 0) {
			ret->flags |= OOM_DELIVERED_VARIABLES_UNREADABLE;
			return;
		}
		is_whole = copied < OOM_VARIABLE_LEN;
		if (is_start && is_ours(&scratch->tail[at])) {
			if (is_whole)
				ret->variables_len += copied;
			else
				ret->flags |= OOM_DELIVERED_VARIABLE_LONG;
		}
		from += is_whole ? copied : copied - 1;
		is_start = is_whole;
	}
	if (from < end)
		ret->flags |= OOM_DELIVERED_VARIABLES_MORE;
}

static __always_inline void emit_delivered(const struct task_struct *victim, __u64 start_boot_ns)
{
	struct delivered_scratch *scratch = bpf_map_lookup_elem(&delivered_scratch, &zero);
	const struct mm_struct *mm = BPF_CORE_READ(victim, mm);
	struct oom_counters *counts = counters();
	struct oom_delivered *ret;
	__u64 len;

	if (!scratch || !counts)
		return;
	ret = &scratch->delivered;
	ret->header.boot_ns = bpf_ktime_get_boot_ns();
	ret->header.start_boot_ns = start_boot_ns;
	ret->header.kind = OOM_KIND_DELIVERED;
	ret->header.tgid = BPF_CORE_READ(victim, tgid);
	fill_args(scratch, mm);
	append_variables(scratch, mm);
	len = delivered_end(scratch);
	if (len > sizeof(scratch->tail) ||
	    bpf_ringbuf_output(&oom_events, scratch, sizeof(*ret) + len, 0))
		add(&counts->lost_delivered);
}

/* On kernels whose mark gave a pid alone: the victim's fields, from its own context. */
static __always_inline void emit_late_mark(const struct task_struct *victim)
{
	struct scratch *scratch = bpf_map_lookup_elem(&mark_scratch, &zero);
	struct oom_counters *counts = counters();
	struct oom_mark *mark;

	if (!scratch || !counts)
		return;
	mark = &scratch->mark;
	clear(mark);
	mark->header.kind = OOM_KIND_MARK;
	mark->header.boot_ns = bpf_ktime_get_boot_ns();
	mark->pid = BPF_CORE_READ(victim, pid);
	mark->flags = OOM_MARK_AT_DELIVERY;
	fill_victim(scratch, victim);
	emit_mark(scratch, counts, victim, NULL);
}

/* Whether an old kernel marked this id and its victim has not been told of yet. */
static __always_inline bool claim(__u32 id)
{
	return !bpf_map_delete_elem(&awaiting_victim, &id);
}

/*
 * Each thread of a victim takes its SIGKILL; the first of them tells the command line. What an
 * old kernel marked is a thread's id, and it need not be the leader's: `oom_mm` says that this
 * group was marked, whatever the id.
 */
SEC("tp_btf/signal_deliver")
int BPF_PROG(on_signal_deliver, int sig, struct kernel_siginfo *info, struct k_sigaction *action)
{
	struct oom_counters *counts = counters();
	struct task_struct *victim;
	__u64 start_boot_ns;
	__u32 tgid, tid;

	if (sig != SIGKILL || !counts)
		return 0;
	victim = (void *)bpf_get_current_task();
	if (!BPF_CORE_READ(victim, signal, oom_mm))
		return 0;
	tgid = BPF_CORE_READ(victim, tgid);
	tid = BPF_CORE_READ(victim, pid);
	start_boot_ns = BPF_CORE_READ(victim, group_leader, start_boottime);
	if (claim(tid) || claim(tgid)) {
		/* Two threads of it may have been marked: user space joins both to one victim. */
		if (bpf_map_update_elem(&awaiting_exit, &tgid, &start_boot_ns, BPF_NOEXIST))
			add(&counts->repeats);
		emit_late_mark(victim);
	}
	if (!bpf_map_update_elem(&delivered, &tgid, &start_boot_ns, BPF_NOEXIST))
		emit_delivered(victim, start_boot_ns);
	return 0;
}

/* The last thread of a victim is gone. */
SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_process_exit, struct task_struct *task)
{
	struct oom_exited exited = { .header = { .kind = OOM_KIND_EXITED } };
	struct oom_counters *counts = counters();

	if (!BPF_CORE_READ(task, signal, oom_mm) || BPF_CORE_READ(task, signal, live.counter))
		return 0;
	exited.header.boot_ns = bpf_ktime_get_boot_ns();
	exited.header.start_boot_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	exited.header.tgid = BPF_CORE_READ(task, tgid);
	bpf_map_delete_elem(&delivered, &exited.header.tgid);
	if (bpf_map_delete_elem(&awaiting_exit, &exited.header.tgid) || !counts)
		return 0; /* not ours, or the other of two last threads was first */
	exited.exit_code = BPF_CORE_READ(task, exit_code);
	if (BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT)
		exited.exit_code = BPF_CORE_READ(task, signal, group_exit_code);
	if (bpf_ringbuf_output(&oom_events, &exited, sizeof(exited), 0))
		add(&counts->lost_exited);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
