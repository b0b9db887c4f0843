// SPDX-License-Identifier: Apache-2.0
/*
 * A process that uses memory as told: the victims and triggers of the tests' real OOM kills.
 *
 * Its arguments are steps, done in order; nothing else is allocated, and it starts in a
 * millisecond. After the last step it exits with 0. A size takes K, M or G.
 *
 *   adj=N        write N to its own oom_score_adj
 *   comm=BYTES   set its name (comm), any bytes but NUL
 *   argv0=BYTES  run itself again with this argv[0] and the steps that follow
 *   eat=SIZE     take this much anonymous memory, touching every page
 *   fork=N       make N children that go on with the next steps, one after the other when
 *                each has said something or died; the parent then waits for all of them
 *   spawn        make a child that goes on with the next steps up to `parent`; the parent goes
 *                on after `parent` when the child has said something or died
 *   thread       go on in a second thread; the first one waits
 *   orphan       go on in a second thread; the first one, the thread-group leader, exits
 *   say=WORD     print "WORD PID TID"
 *   wait         wait for a line on standard input
 *   pause        wait for ever
 *   exit=N       exit with this status
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int heard_fd = -1; /* the parent that forked us waits on the other end */

static void fail(const char *what)
{
	fprintf(stderr, "hog: %s: %s\n", what, strerror(errno));
	exit(125);
}

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		fail(path);
	close(fd);
}

static void heard(void)
{
	if (heard_fd >= 0)
		close(heard_fd);
	heard_fd = -1;
}

static void say(const char *word)
{
	/* One write, so that the lines of several hogs do not mix. */
	dprintf(STDOUT_FILENO, "%s %d %ld\n", word, getpid(), syscall(SYS_gettid));
	heard();
}

static void eat(const char *size)
{
	char *unit;
	size_t bytes = strtoull(size, &unit, 10);
	volatile char *memory;

	bytes <<= *unit == 'K' ? 10 : *unit == 'M' ? 20 : *unit == 'G' ? 30 : 0;
	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		fail("mmap");
	for (size_t at = 0; at < bytes; at += 4096)
		memory[at] = 1;
}

/* Returns true in the child. In the parent it returns when the child spoke or died. */
static int fork_and_hear(void)
{
	char none;
	int ends[2];
	pid_t child;

	if (pipe2(ends, O_CLOEXEC))
		fail("pipe");
	child = fork();
	if (child < 0)
		fail("fork");
	if (!child) {
		heard();
		close(ends[0]);
		heard_fd = ends[1];
		return 1;
	}
	close(ends[1]);
	while (read(ends[0], &none, 1) < 0 && errno == EINTR)
		;
	close(ends[0]);
	return 0;
}

static char **fork_children(int count, char **steps)
{
	for (int i = 0; i < count; i++)
		if (fork_and_hear())
			return steps;
	heard();
	while (wait(NULL) > 0 || errno == EINTR)
		;
	exit(0);
}

static char **spawn(char **steps)
{
	if (fork_and_hear())
		return steps;
	while (*steps && strcmp(*steps, "parent"))
		steps++;
	return *steps ? steps + 1 : steps;
}

static void again_as(char *argv0, char **steps)
{
	char path[4096] = "";

	steps[-1] = argv0; /* execv wants argv[0] just before the steps */
	if (readlink("/proc/self/exe", path, sizeof(path) - 1) < 0 || execv(path, steps - 1))
		fail("execv");
}

static void *run(void *steps);

static void in_thread(char **steps, int leader_exits)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, run, steps))
		fail("pthread_create");
	if (leader_exits)
		pthread_exit(NULL);
	pthread_join(thread, NULL);
}

static char **step(const char *name, char *value, char **next)
{
	if (!strcmp(name, "adj"))
		write_file("/proc/self/oom_score_adj", value);
	else if (!strcmp(name, "comm"))
		prctl(PR_SET_NAME, value);
	else if (!strcmp(name, "argv0"))
		again_as(value, next);
	else if (!strcmp(name, "eat"))
		eat(value);
	else if (!strcmp(name, "fork"))
		return fork_children(atoi(value), next);
	else if (!strcmp(name, "spawn"))
		return spawn(next);
	else if (!strcmp(name, "thread") || !strcmp(name, "orphan"))
		in_thread(next, *name == 'o');
	else if (!strcmp(name, "say"))
		say(value);
	else if (!strcmp(name, "wait"))
		while (getchar() != '\n' && !feof(stdin))
			;
	else if (!strcmp(name, "pause"))
		for (;;)
			pause();
	else if (!strcmp(name, "exit") || !strcmp(name, "parent"))
		exit(atoi(value));
	else {
		errno = EINVAL;
		fail(name);
	}
	return next;
}

static void *run(void *first)
{
	char **steps = first;

	while (*steps) {
		/* Copied, so that /proc/PID/cmdline stays as it was given. */
		char *name = strdup(*steps), *value = strchr(name, '=');

		if (value)
			*value++ = '\0';
		steps = step(name, value ? value : "0", steps + 1);
	}
	exit(0);
}

int main(int argc, char **argv)
{
	(void)argc;
	run(argv + 1);
}
