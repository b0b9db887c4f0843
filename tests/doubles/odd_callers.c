// SPDX-License-Identifier: Apache-2.0
/*
 * Tasks that make storage calls in ways that a follower of calls may get wrong.
 *
 *   odd_callers sync PATH              one fdatasync
 *   odd_callers read PATH              one direct read of 4 KiB
 *   odd_callers twice PATH             one sync_file_range, a line of input, another
 *   odd_callers collide PATH PATH2 N   an fdatasync of PATH, meanwhile N of PATH2 by a task whose
 *                                      tid is another by a multiple of 4096
 *   odd_callers compat PATH N          N calls of the 32-bit entry with a number that is a
 *                                      read's on the 64-bit one
 *   odd_callers bomb PATH N            N processes, each with one direct read of 4 KiB
 *   odd_callers spread PATH N FOLDER   a direct read of 4 KiB in each of FOLDER/0 to FOLDER/N-1
 *
 * It prints "ready PID" and waits for a line on standard input first; `collide` prints the
 * CLOCK_MONOTONIC nanoseconds in which both tasks were in their calls.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define SLOTS 4096
#define MOST_AT_A_TIME 32
#define COMPAT_CALL 17 /* no call any more; pread64 of the 64-bit entry */

static const char *path;

static void fail(const char *what)
{
	fprintf(stderr, "odd_callers: %s %s: %s\n", what, path, strerror(errno));
	exit(125);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static void wait_for_line(void)
{
	while (getchar() != '\n' && !feof(stdin))
		;
}

static int opened(const char *name, int flags)
{
	int fd = open(name, flags);

	if (fd < 0)
		fail("open");
	return fd;
}

/* Ends with 1 if the read fails, which may be what the test wants. */
static void read_block(int fd)
{
	void *block;

	if (posix_memalign(&block, BLOCK, BLOCK))
		fail("memory");
	if (pread(fd, block, BLOCK, 0) != BLOCK)
		exit(1);
	free(block);
}

/* A child with the next free tid that shares this one's slot. */
static pid_t fork_into_own_slot(void)
{
	pid_t wanted, child = -1;

	for (wanted = getpid() % SLOTS + SLOTS; child < 0; wanted += SLOTS) {
		struct clone_args arguments = { .exit_signal = SIGCHLD,
						.set_tid = (uint64_t)&wanted,
						.set_tid_size = 1 };

		child = syscall(SYS_clone3, &arguments, sizeof(arguments));
		if (child < 0 && errno != EEXIST)
			fail("clone3");
	}
	return child;
}

static void sync_many(int fd, int count)
{
	uint64_t begin_ns;

	usleep(100000); /* the other one is in its call by then, as the times say */
	begin_ns = now_ns();
	while (count--)
		if (fdatasync(fd))
			fail("fdatasync");
	printf("inner %llu %llu\n", (unsigned long long)begin_ns, (unsigned long long)now_ns());
	fflush(stdout);
	_exit(0);
}

static void collide(const char *other, int count)
{
	int slow = opened(path, O_WRONLY), quick = opened(other, O_WRONLY);
	uint64_t begin_ns;

	if (!fork_into_own_slot())
		sync_many(quick, count);
	begin_ns = now_ns();
	if (fdatasync(slow))
		fail("fdatasync");
	printf("outer %llu %llu\n", (unsigned long long)begin_ns, (unsigned long long)now_ns());
	wait(NULL);
}

#ifdef __x86_64__
static void call_compat(int count)
{
	int fd = opened(path, O_RDONLY), result;

	while (count--) {
		__asm__ volatile("int $0x80"
				 : "=a"(result)
				 : "a"(COMPAT_CALL), "b"(fd), "c"(0), "d"(0),
				   "D"(fd) /* where a read of the 64-bit entry has it */
				 : "memory", "r8", "r9", "r10", "r11");
		errno = -result;
		if (result != -ENOSYS)
			fail("int 0x80");
	}
}
#else
static void call_compat(int count)
{
	(void)count;
	errno = ENOSYS;
	fail("there is no second way into this kernel");
}
#endif

static void bomb(int count)
{
	int failed = 0, status, alive = 0;

	while (count || alive) {
		if (count && alive < MOST_AT_A_TIME) {
			pid_t child = fork();

			if (child < 0)
				fail("fork");
			if (!child) {
				read_block(opened(path, O_RDONLY | O_DIRECT));
				_exit(0);
			}
			count--;
			alive++;
			continue;
		}
		wait(&status);
		failed += !!status;
		alive--;
	}
	exit(!!failed);
}

static void enter(const char *folder, int number)
{
	char name[4096];
	int fd;

	snprintf(name, sizeof(name), "%s/%d/cgroup.procs", folder, number);
	fd = opened(name, O_WRONLY);
	if (write(fd, "0", 1) != 1)
		fail(name);
	close(fd);
}

static void spread(const char *folder, int count)
{
	int fd = opened(path, O_RDONLY | O_DIRECT);

	for (int number = 0; number < count; number++) {
		enter(folder, number);
		read_block(fd);
	}
}

static void sync_twice(void)
{
	int fd = opened(path, O_WRONLY);

	if (sync_file_range(fd, 0, BLOCK, SYNC_FILE_RANGE_WRITE))
		fail("sync_file_range");
	printf("once\n");
	fflush(stdout);
	wait_for_line();
	if (sync_file_range(fd, 0, BLOCK, SYNC_FILE_RANGE_WRITE))
		fail("sync_file_range");
}

int main(int argc, char **argv)
{
	const char *what;

	if (argc < 3)
		return 125;
	what = argv[1];
	path = argv[2];
	printf("ready %d\n", getpid());
	fflush(stdout);
	wait_for_line();
	if (!strcmp(what, "sync"))
		return !!fdatasync(opened(path, O_WRONLY));
	else if (!strcmp(what, "read"))
		read_block(opened(path, O_RDONLY | O_DIRECT));
	else if (!strcmp(what, "twice"))
		sync_twice();
	else if (!strcmp(what, "collide"))
		collide(argv[3], atoi(argv[4]));
	else if (!strcmp(what, "compat"))
		call_compat(atoi(argv[3]));
	else if (!strcmp(what, "bomb"))
		bomb(atoi(argv[3]));
	else if (!strcmp(what, "spread"))
		spread(argv[4], atoi(argv[3]));
	return 0;
}
