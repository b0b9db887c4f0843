// SPDX-License-Identifier: Apache-2.0
/*
 * A task that does one storage operation again and again, and says when each began and ended:
 * the ground truth of the storage tests.
 *
 *   operations NAME PATH COUNT BYTES PAUSE_MS
 *
 * It prints "ready PID", waits for a line on standard input, does the operation COUNT times (0:
 * for ever) with a pause before each, and at the end prints "START_NS END_NS" of each, in
 * CLOCK_MONOTONIC. Only the system call that NAME names is between the two.
 *
 *   read, write       direct, at random offsets of the file or device
 *   buffered_read     not cached before, without read-ahead
 *   buffered_write    at the next offset, round the file
 *   fsync, fdatasync  of BYTES just appended
 *   create            of PATH.PID.NUMBER, which stays
 *   fsync_entangled   of BYTES just appended, after as much in 32 new files that nobody syncs
 *   burn              no I/O: the processor, for BYTES microseconds
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *path;
static int fd;
static char *data;
static size_t bytes;
static off_t file_bytes, next_offset;
static int number;

static void fail(const char *what)
{
	fprintf(stderr, "operations: %s %s: %s\n", what, path, strerror(errno));
	exit(125);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void must_be(ssize_t done, ssize_t expected, const char *what)
{
	if (done != expected)
		fail(what);
}

static void pick_random(void)
{
	next_offset = (off_t)(rand() % (file_bytes / bytes)) * bytes;
}

static void drop_cache(void)
{
	pick_random();
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

static void advance(void)
{
	next_offset = next_offset + 2 * (off_t)bytes > file_bytes ? 0 : next_offset + bytes;
}

static void append(void)
{
	must_be(write(fd, data, bytes), bytes, "append");
}

static void append_beside_others(void)
{
	char name[4096];
	int other;

	for (int i = 0; i < 32; i++) {
		snprintf(name, sizeof(name), "%s.%d.%d", path, getpid(), number++);
		other = open(name, O_CREAT | O_WRONLY | O_EXCL, 0600);
		must_be(write(other, data, bytes), bytes, "write of others");
		close(other);
	}
	append();
}

static void do_read(void)
{
	must_be(pread(fd, data, bytes, next_offset), bytes, "read");
}

static void do_write(void)
{
	must_be(pwrite(fd, data, bytes, next_offset), bytes, "write");
}

static void do_fsync(void)
{
	must_be(fsync(fd), 0, "fsync");
}

static void do_fdatasync(void)
{
	must_be(fdatasync(fd), 0, "fdatasync");
}

static void do_create(void)
{
	char name[4096];

	snprintf(name, sizeof(name), "%s.%d.%d", path, getpid(), number++);
	close(open(name, O_CREAT | O_WRONLY | O_EXCL, 0600));
}

static void burn(void)
{
	uint64_t end_ns = now_ns() + bytes * 1000;

	while (now_ns() < end_ns)
		;
}

static const struct operation {
	const char *name;
	int flags;
	void (*prepare)(void); /* not timed */
	void (*run)(void);
} all[] = {
	{ "read", O_RDONLY | O_DIRECT, pick_random, do_read },
	{ "write", O_WRONLY | O_DIRECT, pick_random, do_write },
	{ "buffered_read", O_RDONLY, drop_cache, do_read },
	{ "buffered_write", O_WRONLY, advance, do_write },
	{ "fsync", O_WRONLY | O_APPEND, append, do_fsync },
	{ "fdatasync", O_WRONLY | O_APPEND, append, do_fdatasync },
	{ "create", O_RDONLY, NULL, do_create },
	{ "fsync_entangled", O_WRONLY | O_APPEND, append_beside_others, do_fsync },
	{ "burn", O_RDONLY, NULL, burn },
};

static const struct operation *find(const char *name)
{
	for (size_t i = 0; i < sizeof(all) / sizeof(*all); i++)
		if (!strcmp(all[i].name, name))
			return &all[i];
	errno = EINVAL;
	fail(name);
	return NULL;
}

static void prepare_all(const struct operation *operation)
{
	fd = open(path, operation->flags | (operation->prepare ? O_CREAT : 0), 0600);
	if (operation->prepare && fd < 0)
		fail("open");
	if (operation->run == do_read)
		posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	file_bytes = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	if (posix_memalign((void **)&data, 4096, bytes))
		fail("memory");
	memset(data, 1, bytes);
	printf("ready %d\n", getpid());
	fflush(stdout);
	while (getchar() != '\n' && !feof(stdin))
		;
}

int main(int argc, char **argv)
{
	const struct operation *operation;
	uint64_t(*times)[2];
	int count, pause_ms;

	if (argc != 6) {
		fprintf(stderr, "operations NAME PATH COUNT BYTES PAUSE_MS\n");
		return 125;
	}
	path = argv[2];
	operation = find(argv[1]);
	count = atoi(argv[3]);
	bytes = atol(argv[4]);
	pause_ms = atoi(argv[5]);
	times = calloc(count + 1, sizeof(*times));
	srand(getpid());
	prepare_all(operation);
	for (int i = 0; !count || i < count; i++) {
		usleep(pause_ms * 1000);
		if (operation->prepare)
			operation->prepare();
		times[count ? i : 0][0] = now_ns();
		operation->run();
		times[count ? i : 0][1] = now_ns();
	}
	for (int i = 0; i < count; i++)
		printf("%llu %llu\n", (unsigned long long)times[i][0],
		       (unsigned long long)times[i][1]);
	return 0;
}
