// SPDX-License-Identifier: Apache-2.0
/*
 * A file whose reads, writes and fsyncs take as long as it is told: a loop device over it is a
 * slow disk. It is a FUSE file system of one file, mounted on a file, and speaks the protocol of
 * linux/fuse.h itself, so that it needs no library.
 *
 *   slow_fuse BACKING MOUNTPOINT CONTROL DEPTH
 *
 * BACKING holds the data, MOUNTPOINT is an empty file, CONTROL is mapped as `struct control` and
 * may be changed at any time. DEPTH requests are served at once; the others wait. It prints
 * "ready" when it is mounted and ends when it is unmounted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef FOPEN_PARALLEL_DIRECT_WRITES /* headers before Linux 6.2 */
#define FOPEN_PARALLEL_DIRECT_WRITES (1 << 6)
#endif

#define MAX_BYTES (1 << 20)
#define MAX_THREADS 256

enum kind { READ, WRITE, FSYNC, KINDS };

/* One for each kind of request; slow_fuse.py packs the same. */
struct control {
	uint64_t delay_ns; /* added to each request */
	uint64_t error; /* errno of each request instead of the work, or 0 */
	uint64_t served; /* requests that were answered */
};

static int fuse_fd, backing_fd;
static struct control *control;

static void fail(const char *what)
{
	fprintf(stderr, "slow_fuse: %s: %s\n", what, strerror(errno));
	exit(125);
}

static void reply(uint64_t unique, int error, const void *data, size_t bytes)
{
	struct fuse_out_header head = { .unique = unique, .error = -error };
	struct iovec parts[2] = { { &head, sizeof(head) }, { (void *)data, error ? 0 : bytes } };

	head.len = sizeof(head) + parts[1].iov_len;
	/* ENOENT: who asked was interrupted, nobody waits for the answer. */
	if (writev(fuse_fd, parts, 2) < 0 && errno != ENOENT)
		fail("reply");
}

/* Wait the delay of this kind, counted from now; the errno that was asked for. */
static int wait_as_told(enum kind kind)
{
	uint64_t delay_ns = __atomic_load_n(&control[kind].delay_ns, __ATOMIC_RELAXED);
	struct timespec delay = { delay_ns / 1000000000, delay_ns % 1000000000 };

	if (delay_ns)
		clock_nanosleep(CLOCK_MONOTONIC, 0, &delay, NULL);
	__atomic_add_fetch(&control[kind].served, 1, __ATOMIC_RELAXED);
	return __atomic_load_n(&control[kind].error, __ATOMIC_RELAXED);
}

static void serve_init(uint64_t unique, const struct fuse_init_in *asked)
{
	struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION, .minor = 31 };

	out.max_readahead = asked->max_readahead;
	out.flags = asked->flags & (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO |
				    FUSE_MAX_PAGES | FUSE_PARALLEL_DIROPS);
	out.max_background = MAX_THREADS;
	out.congestion_threshold = MAX_THREADS;
	out.max_write = MAX_BYTES;
	out.max_pages = MAX_BYTES / 4096;
	reply(unique, 0, &out, sizeof(out));
}

static void serve_getattr(uint64_t unique)
{
	struct fuse_attr_out out = { .attr_valid = 3600 };
	struct stat stat;

	if (fstat(backing_fd, &stat))
		fail("fstat");
	out.attr = (struct fuse_attr){ .ino = FUSE_ROOT_ID,
				       .size = stat.st_size,
				       .mode = S_IFREG | 0600,
				       .nlink = 1,
				       .blksize = 4096 };
	reply(unique, 0, &out, sizeof(out));
}

static void serve_open(uint64_t unique)
{
	/* Direct: the page cache of this file would hide the delay. */
	struct fuse_open_out out = { .open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES };

	reply(unique, 0, &out, sizeof(out));
}

static void serve_read(uint64_t unique, const struct fuse_read_in *asked, char *data)
{
	int error = wait_as_told(READ);
	ssize_t bytes = pread(backing_fd, data, asked->size, asked->offset);

	reply(unique, bytes < 0 ? EIO : error, data, bytes);
}

static void serve_write(uint64_t unique, const struct fuse_write_in *asked)
{
	int error = wait_as_told(WRITE);
	struct fuse_write_out out = { .size = asked->size };

	/* The data follows the header of the request. */
	if (!error && pwrite(backing_fd, asked + 1, asked->size, asked->offset) != asked->size)
		error = EIO;
	reply(unique, error, &out, sizeof(out));
}

static void serve_fallocate(uint64_t unique, const struct fuse_fallocate_in *asked)
{
	int failed = fallocate(backing_fd, asked->mode, asked->offset, asked->length);

	reply(unique, failed ? errno : 0, NULL, 0);
}

static void serve(const struct fuse_in_header *head, const void *body, char *data)
{
	switch (head->opcode) {
	case FUSE_INIT:
		return serve_init(head->unique, body);
	case FUSE_GETATTR:
	case FUSE_SETATTR:
		return serve_getattr(head->unique);
	case FUSE_OPEN:
		return serve_open(head->unique);
	case FUSE_READ:
		return serve_read(head->unique, body, data);
	case FUSE_WRITE:
		return serve_write(head->unique, body);
	case FUSE_FSYNC:
		return reply(head->unique, wait_as_told(FSYNC), NULL, 0);
	case FUSE_FALLOCATE:
		return serve_fallocate(head->unique, body);
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_DESTROY:
		return reply(head->unique, 0, NULL, 0);
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return; /* the protocol has no answer to these */
	default:
		return reply(head->unique, ENOSYS, NULL, 0);
	}
}

static void *serve_all(void *none)
{
	/* A whole request; the first page is more than the headers need. */
	char *request = malloc(MAX_BYTES + 4096), *data = malloc(MAX_BYTES);
	const struct fuse_in_header *head = (const void *)request;

	if (!request || !data)
		fail("malloc");
	for (;;) {
		if (read(fuse_fd, request, MAX_BYTES + 4096) > 0)
			serve(head, head + 1, data);
		else if (errno == ENODEV)
			exit(0); /* unmounted */
		else if (errno != EINTR && errno != EAGAIN && errno != ENOENT)
			fail("read of /dev/fuse");
	}
	return none;
}

static void open_all(char **argv)
{
	int control_fd = open(argv[3], O_RDWR);
	char options[128];

	backing_fd = open(argv[1], O_RDWR);
	fuse_fd = open("/dev/fuse", O_RDWR);
	if (backing_fd < 0 || control_fd < 0 || fuse_fd < 0)
		fail("open");
	control = mmap(NULL, sizeof(*control) * KINDS, PROT_READ | PROT_WRITE, MAP_SHARED,
		       control_fd, 0);
	if (control == MAP_FAILED)
		fail(argv[3]);
	snprintf(options, sizeof(options), "fd=%d,rootmode=100600,user_id=0,group_id=0", fuse_fd);
	if (mount("slow_fuse", argv[2], "fuse", MS_NOSUID | MS_NODEV, options))
		fail("mount");
}

int main(int argc, char **argv)
{
	pthread_t thread;

	if (argc != 5) {
		fprintf(stderr, "slow_fuse BACKING MOUNTPOINT CONTROL DEPTH\n");
		return 125;
	}
	open_all(argv);
	printf("ready\n");
	fflush(stdout);
	for (int i = 1; i < atoi(argv[4]); i++)
		if (pthread_create(&thread, NULL, serve_all, NULL))
			fail("pthread_create");
	serve_all(NULL);
}
