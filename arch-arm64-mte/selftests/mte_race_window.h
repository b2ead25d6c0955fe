/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The race_window module, which holds a chosen thread at the entry of a chosen kernel
 * function: see race_window/race_window.c. The user loads it, or there is none.
 */
#ifndef _MTE_RACE_WINDOW_H
#define _MTE_RACE_WINDOW_H

#include <errno.h>
#include <sched.h>
#include <sys/types.h>

#include "kselftest.h"
#include "mte_zram.h"

#define RACE_WINDOW_DIR	"/sys/kernel/debug/race_window/"

/* Longest hold the module allows */
#define RACE_WINDOW_MAX_US	2000000

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

/* Why races cannot be tested here, or NULL */
static inline const char *race_window_missing(void)
{
	if (usable_cpu(1) < 0)
		return "needs two CPUs: one is stuck while a task is held";
	if (!race_window_loaded())
		return "no race_window in debugfs: insmod race_window/race_window.ko";
	return NULL;
}

/*
 * Watch thread @tid (0: all) for entries of @function and hold it for @delay_us (0: only
 * count) at the first @holds of them (0: all). Resets the counters. Returns 0 or -errno.
 */
static inline int race_window_arm(const char *function, pid_t tid, unsigned long delay_us,
				  unsigned long holds)
{
	/* Arming comes last: nothing is caught with the old settings. */
	if (write_number(RACE_WINDOW_DIR "max_holds", holds) &&
	    write_number(RACE_WINDOW_DIR "pid", tid) &&
	    write_number(RACE_WINDOW_DIR "delay_us", delay_us) &&
	    write_text(RACE_WINDOW_DIR "function", function))
		return 0;
	return -errno;
}

/* The same, and only the first one is held. Returns 0 or -errno. */
static inline int race_window_arm_once(const char *function, pid_t tid,
				       unsigned long delay_us)
{
	return race_window_arm(function, tid, delay_us, 1);
}

/* Nothing is held from now on. The counters are gone: read them before. */
static inline void race_window_disarm(void)
{
	write_text(RACE_WINDOW_DIR "function", "\n");
}

/* Ends the hold under way, if any */
static inline void race_window_release(void)
{
	write_text(RACE_WINDOW_DIR "release", "1\n");
}

/* Whether a thread is held at this moment */
static inline bool race_window_is_open(void)
{
	return read_number(RACE_WINDOW_DIR "held") > 0;
}

/*
 * Entries of the function since it was armed; those at which PG_mte_tagged of the page
 * in argument 0 was already set; those at which the page had tags in it
 */
static inline long race_window_hits(void)
{
	return read_number(RACE_WINDOW_DIR "hits");
}

static inline long race_window_early(void)
{
	return read_number(RACE_WINDOW_DIR "early");
}

static inline long race_window_stale(void)
{
	return read_number(RACE_WINDOW_DIR "stale");
}

/* Wait until the watched thread is held. Returns false after five seconds. */
static inline bool race_window_wait_hit(void)
{
	int i;

	for (i = 0; i < 50000; i++) {
		if (race_window_hits() > 0)
			return race_window_is_open();
		usleep(100);
	}
	return false;
}

/*
 * Evidence without the module: whether a page is in a frame that had other content
 * before, when it was noted
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
 * @pagemap: an open file, or -1 for memory of this process. Returns false if it cannot be read.
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
