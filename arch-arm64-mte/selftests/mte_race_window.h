/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Access to the race_window test module, which holds a chosen thread at the
 * entry of a chosen kernel function. It comes from outside the kernel tree.
 */
#ifndef _MTE_RACE_WINDOW_H
#define _MTE_RACE_WINDOW_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/types.h>

#include "kselftest.h"

#define RACE_WINDOW_DIR	"/sys/kernel/debug/race_window/"

/* Longest hold the module allows */
#define RACE_WINDOW_MAX_US	2000000

/* Returns 0 or -errno */
static inline int race_window_write(const char *file, const char *text)
{
	char path[128];
	int fd, ret = 0;

	snprintf(path, sizeof(path), RACE_WINDOW_DIR "%s", file);
	fd = open(path, O_WRONLY);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

static inline int race_window_set(const char *file, unsigned long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu\n", value);
	return race_window_write(file, text);
}

/* Returns -1 if the file cannot be read */
static inline long race_window_get(const char *file)
{
	char path[128], text[32] = "";
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), RACE_WINDOW_DIR "%s", file);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return -1;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	return len > 0 ? strtol(text, NULL, 0) : -1;
}

static inline bool race_window_loaded(void)
{
	return !access(RACE_WINDOW_DIR "function", W_OK);
}

/*
 * The CPU that is number @nth, from 0, of those that the program was allowed to
 * use when it first asked; -1 if there are not so many
 */
static inline int usable_cpu(int nth)
{
	static cpu_set_t set;
	int cpu;

	if (!CPU_COUNT(&set))
		sched_getaffinity(0, sizeof(set), &set);
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &set) && !nth--)
			return cpu;
	return -1;
}

/* Have thread @tid (0: this one) run there. Returns false if it cannot. */
static inline bool bind_to_cpu(pid_t tid, int nth)
{
	int cpu = usable_cpu(nth);
	cpu_set_t set;

	if (cpu < 0)
		return false;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return !sched_setaffinity(tid, sizeof(set), &set);
}

static inline const char *race_window_missing(void)
{
	if (usable_cpu(1) < 0)
		return "needs two CPUs: one is stuck while a task is held";
	if (!race_window_loaded())
		return "race_window module not loaded (or debugfs not mounted)";
	return NULL;
}

/* Only the first @entries are held; 0: all. Stays until it is set again. */
static inline void race_window_limit(unsigned long entries)
{
	race_window_set("max_holds", entries);
}

/*
 * Watch thread @tid (0: all) for entries of @function and hold it there for
 * @delay_us (0: only count). Resets the counters. Returns 0 or -errno.
 */
static inline int race_window_arm(const char *function, pid_t tid,
				  unsigned long delay_us)
{
	/* Arming comes last: nobody is caught with the old settings. */
	int ret = race_window_set("pid", tid);

	if (!ret)
		ret = race_window_set("delay_us", delay_us);
	if (!ret)
		ret = race_window_write("function", function);
	return ret;
}

/* The same, and only the first one is held. Returns 0 or -errno. */
static inline int race_window_arm_once(const char *function, pid_t tid,
				       unsigned long delay_us)
{
	race_window_limit(1);
	return race_window_arm(function, tid, delay_us);
}

/* Nobody is held from now on. The counters are gone: read them before. */
static inline void race_window_disarm(void)
{
	race_window_write("function", "\n");
}

/* Ends the hold under way, if any */
static inline void race_window_release(void)
{
	race_window_write("release", "1\n");
}

/* Entries of the function since it was armed */
static inline long race_window_hits(void)
{
	return race_window_get("hits");
}

/* Entries at which PG_mte_tagged of the page in argument 0 was already set */
static inline long race_window_early(void)
{
	return race_window_get("early");
}

/* Entries at which the page had tags in it */
static inline long race_window_stale(void)
{
	return race_window_get("stale");
}

/*
 * Count the pages with stale tags that thread @tid (0: any) has @function see
 * to, until race_window_watched(). Returns false if the module cannot do so.
 * Without the module nothing is counted.
 */
static inline bool race_window_watch(const char *function, pid_t tid)
{
	int ret;

	if (!race_window_loaded())
		return true;
	ret = race_window_arm(function, tid, 0);
	if (ret)
		ksft_print_msg("cannot watch %s(): %s\n", function,
			       strerror(-ret));
	return !ret;
}

/* Returns how many there were, or -1 without the module */
static inline long race_window_watched(void)
{
	long stale = race_window_loaded() ? race_window_stale() : -1;

	race_window_disarm();
	return stale;
}

/* Wait until the watched thread is held. Returns false after five seconds. */
static inline bool race_window_wait_hit(void)
{
	int i;

	for (i = 0; i < 50000; i++) {
		if (race_window_hits() > 0)
			return race_window_get("held") > 0;
		usleep(100);
	}
	return false;
}

/* Whether a thread is held at this moment */
static inline bool race_window_is_open(void)
{
	return race_window_get("held") > 0;
}

/*
 * Evidence without the module: whether a page is in a frame that was known to be
 * somebody else's before
 */
#define PAGEMAP		"/proc/self/pagemap"
#define PAGEMAP_PRESENT	0x8000000000000000UL
/* Where the page is, or its swap type and offset if it is swapped out */
#define PAGEMAP_PFN	((1UL << 55) - 1)

struct frames {
	unsigned long *of;
	size_t nr;
};

static inline int compare_frames(const void *a, const void *b)
{
	unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;

	return x < y ? -1 : x > y;
}

/*
 * Note the page frames of this memory, too; 0 for a page that is not there, or is hidden.
 * @pagemap: an open file, or -1 for our own memory. Returns false if it cannot be read.
 */
static inline bool note_frames(struct frames *f, int pagemap, const void *mem, size_t size)
{
	size_t i, page = sysconf(_SC_PAGESIZE), nr = size / page, bytes = nr * sizeof(*f->of);
	off_t offset = (unsigned long)mem / page * sizeof(*f->of);
	int fd = pagemap < 0 ? open(PAGEMAP, O_RDONLY) : pagemap;
	unsigned long *of;
	bool ok;

	f->of = realloc(f->of, (f->nr + nr) * sizeof(*f->of));
	of = f->of + f->nr;
	ok = fd >= 0 && pread(fd, of, bytes, offset) == (ssize_t)bytes;
	for (i = 0; ok && i < nr; i++)
		of[i] = of[i] & PAGEMAP_PRESENT ? of[i] & PAGEMAP_PFN : 0;
	f->nr += ok ? nr : 0;
	if (pagemap < 0 && fd >= 0)
		close(fd);
	return ok;
}

/* How many pages of this memory are in one of these page frames; -1 if that is hidden */
static inline long count_frames(const struct frames *f, int pagemap, const void *mem,
				size_t size)
{
	struct frames now = {};
	long count = 0;
	size_t i;

	if (!note_frames(&now, pagemap, mem, size))
		return -1;
	qsort(now.of, now.nr, sizeof(*now.of), compare_frames);
	if (!now.of[now.nr - 1])
		return -1;
	/* There are fewer of them. */
	for (i = 0; i < f->nr; i++)
		count += f->of[i] && bsearch(&f->of[i], now.of, now.nr, sizeof(*now.of),
					     compare_frames);
	free(now.of);
	return count;
}

#endif /* _MTE_RACE_WINDOW_H */
