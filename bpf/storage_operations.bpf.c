// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
/*
 * Storage operations, from the system call to its return, and what they waited for.
 *
 * Where the time of a slow call goes is what its task waits for. So we follow the task, not the
 * request: the scheduler tells when it sleeps, who wakes it and when it runs again; a wake-up
 * inside the completion of a request is that request's doing, and the request itself carries
 * its times. Nothing is looked up by address on the way of a request, and whoever the work was
 * handed to (a journal's thread, a worker of the kernel) is followed too.
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
#include "storage_operations/state.h"
#include "storage_operations/calls.h"
#include "storage_operations/ends.h"
#include "storage_operations/submissions.h"
#include "storage_operations/waits.h"
#include "storage_operations/workers.h"
#include "storage_operations/wakeups.h"
#include "storage_operations/requests.h"
#include "storage_operations/bios.h"
#include "storage_operations/events.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
