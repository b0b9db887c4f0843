// SPDX-License-Identifier: Apache-2.0
/*
 * Submits asynchronous reads or writes, DEPTH with one system call, and waits for them all;
 * BATCHES times. It prints "TID START_NS SUBMITTED_NS END_NS" of each batch, in CLOCK_MONOTONIC:
 * who submitted, around the call, and when the last result was there.
 *
 *   asynchronous libaio|thread|io_uring read|write PATH BATCHES DEPTH BYTES
 *
 * Direct, each operation at the next offset. With `thread` a thread submits each batch by libaio
 * and has ended before its results are there, if they take a while.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_DEPTH 256

static const char *engine, *path;
static int fd, is_write;
static unsigned int depth;
static size_t bytes;
static uint64_t next_offset, start_ns, submitted_ns;
static long tid;
static char *data;

static aio_context_t context;

static int ring_fd;
static unsigned int *submission_tail, *submission_mask, *submission_index;
static unsigned int *completion_head, *completion_tail, *completion_mask;
static struct io_uring_sqe *entries;
static struct io_uring_cqe *completions;

static void fail(const char *what)
{
	fprintf(stderr, "asynchronous: %s %s: %s\n", what, path, strerror(errno));
	exit(125);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void *mapped(size_t size, off_t offset)
{
	void *found = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, offset);

	if (found == MAP_FAILED)
		fail("mmap");
	return found;
}

static void set_ring_up(void)
{
	struct io_uring_params params = {};
	char *submission, *completion;

	ring_fd = syscall(SYS_io_uring_setup, MAX_DEPTH, &params);
	if (ring_fd < 0)
		fail("io_uring_setup");
	submission = mapped(params.sq_off.array + MAX_DEPTH * sizeof(int), IORING_OFF_SQ_RING);
	completion = mapped(params.cq_off.cqes + 2 * MAX_DEPTH * sizeof(*completions),
			    IORING_OFF_CQ_RING);
	entries = mapped(MAX_DEPTH * sizeof(*entries), IORING_OFF_SQES);
	submission_tail = (void *)(submission + params.sq_off.tail);
	submission_mask = (void *)(submission + params.sq_off.ring_mask);
	submission_index = (void *)(submission + params.sq_off.array);
	completion_head = (void *)(completion + params.cq_off.head);
	completion_tail = (void *)(completion + params.cq_off.tail);
	completion_mask = (void *)(completion + params.cq_off.ring_mask);
	completions = (void *)(completion + params.cq_off.cqes);
}

static void fill_entry(unsigned int number)
{
	unsigned int tail = *submission_tail, index = tail & *submission_mask;

	entries[index] = (struct io_uring_sqe){
		.opcode = is_write ? IORING_OP_WRITE : IORING_OP_READ,
		.fd = fd,
		.off = next_offset,
		.addr = (uint64_t)(data + number * bytes),
		.len = bytes,
	};
	submission_index[index] = index;
	__atomic_store_n(submission_tail, tail + 1, __ATOMIC_RELEASE);
	next_offset += bytes;
}

static void submit_ring(void)
{
	unsigned int i;

	for (i = 0; i < depth; i++)
		fill_entry(i);
	start_ns = now_ns();
	if (syscall(SYS_io_uring_enter, ring_fd, depth, 0, 0, NULL, 0) != (long)depth)
		fail("io_uring_enter");
	submitted_ns = now_ns();
}

static void collect_ring(void)
{
	unsigned int seen = 0, head;

	while (seen < depth) {
		if (syscall(SYS_io_uring_enter, ring_fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
			fail("io_uring_enter");
		head = *completion_head;
		while (head != __atomic_load_n(completion_tail, __ATOMIC_ACQUIRE)) {
			errno = -completions[head & *completion_mask].res;
			if (completions[head++ & *completion_mask].res != (int)bytes)
				fail("io_uring");
			seen++;
		}
		__atomic_store_n(completion_head, head, __ATOMIC_RELEASE);
	}
}

static void *submit_aio(void *unused)
{
	static struct iocb blocks[MAX_DEPTH], *list[MAX_DEPTH];
	unsigned int i;

	for (i = 0; i < depth; i++) {
		blocks[i] = (struct iocb){
			.aio_lio_opcode = is_write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
			.aio_fildes = fd,
			.aio_offset = next_offset,
			.aio_buf = (uint64_t)(data + i * bytes),
			.aio_nbytes = bytes,
		};
		list[i] = &blocks[i];
		next_offset += bytes;
	}
	tid = syscall(SYS_gettid);
	start_ns = now_ns();
	if (syscall(SYS_io_submit, context, (long)depth, list) != (long)depth)
		fail("io_submit");
	submitted_ns = now_ns();
	return unused;
}

static void submit_in_thread(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, submit_aio, NULL) || pthread_join(thread, NULL))
		fail("pthread_create");
}

static void collect_aio(void)
{
	struct io_event events[MAX_DEPTH];
	unsigned int i;

	if (syscall(SYS_io_getevents, context, (long)depth, (long)depth, events, NULL) !=
	    (long)depth)
		fail("io_getevents");
	for (i = 0; i < depth; i++) {
		errno = -events[i].res;
		if (events[i].res != (long)bytes)
			fail(engine);
	}
}

static void set_up(void)
{
	tid = syscall(SYS_gettid);
	fd = open(path, O_RDWR | O_DIRECT);
	if (fd < 0)
		fail("open");
	data = mmap(NULL, depth * bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	if (data == MAP_FAILED)
		fail("mmap");
	memset(data, 1, depth * bytes);
	if (!strcmp(engine, "io_uring"))
		set_ring_up();
	else if (syscall(SYS_io_setup, MAX_DEPTH, &context))
		fail("io_setup");
}

static void do_batch(void)
{
	if (!strcmp(engine, "io_uring")) {
		submit_ring();
		collect_ring();
		return;
	}
	if (!strcmp(engine, "thread"))
		submit_in_thread();
	else
		submit_aio(NULL);
	collect_aio();
}

int main(int argc, char **argv)
{
	int i;

	if (argc != 7) {
		fprintf(stderr, "usage: asynchronous ENGINE NAME PATH BATCHES DEPTH BYTES\n");
		return 2;
	}
	engine = argv[1];
	is_write = !strcmp(argv[2], "write");
	path = argv[3];
	depth = atoi(argv[5]);
	bytes = atol(argv[6]);
	if (!depth || depth > MAX_DEPTH)
		return 2;
	set_up();
	for (i = 0; i < atoi(argv[4]); i++) {
		do_batch();
		printf("%ld %lu %lu %lu\n", tid, start_ns, submitted_ns, now_ns());
	}
	return 0;
}
