// SPDX-License-Identifier: GPL-2.0
/*
 * check_tag_init_race - two processes make a shared page tagged at one time
 *
 * The kernel initialises the allocation tags of a page when the page is mapped
 * with PROT_MTE for the first time. Two processes that share a memfd page may
 * get there together: mprotect() of one is no obstacle to the other.
 *
 * One window goes like this. The page holds data and has never been tagged. A
 * child enters the kernel to map it with PROT_MTE and is held, by the
 * race_window module, at the function that clears the page's tags. The parent
 * maps the page with PROT_MTE, sets random tags and lets the child go. Now
 * the child either clears the tags or has noticed that the page has some.
 *
 * Scenarios, by what the child and the parent do:
 *
 * 1. mprotect(PROT_MTE) of a mapping that is in use, both
 * 2. the child by mprotect(), the parent by the first access to a mapping
 *    made with PROT_MTE
 * 3. the child by the first access, the parent by mprotect()
 *
 * Property: every tag that the parent has set is there in the end.
 *
 * Each result says how many windows were tried and in how many the child was
 * in fact held. With the module, no hit at all is a failure of the test.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "mte_page_tags.h"
#include "mte_race_window.h"

#define WINDOWS		8

enum way { BY_MPROTECT, BY_FIRST_ACCESS };

static const struct scenario {
	const char *property;
	enum way child, parent;
} scenarios[] = {
	{ "tags_survive_mprotect_beside_mprotect", BY_MPROTECT, BY_MPROTECT },
	{ "tags_survive_mprotect_beside_first_access", BY_MPROTECT,
	  BY_FIRST_ACCESS },
	{ "tags_survive_first_access_beside_mprotect", BY_FIRST_ACCESS,
	  BY_MPROTECT },
};

static void run_on_cpu(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* A mapping of the page that make_tagged() turns into one with tags */
static char *map_page(int fd, enum way way)
{
	char *page = mmap(NULL, page_size(),
			  way == BY_MPROTECT ? PLAIN : TAGGED, MAP_SHARED, fd,
			  0);

	/* mprotect() only looks at pages that are mapped */
	if (page != MAP_FAILED && way == BY_MPROTECT)
		touch(page);
	return page;
}

static bool make_tagged(char *page, enum way way)
{
	if (way == BY_MPROTECT)
		return !mprotect(page, page_size(), TAGGED);
	touch(page);
	return true;
}

static int child_main(int fd, enum way way, int ready, int go)
{
	char *page, c = 0;

	run_on_cpu(1);
	page = map_page(fd, way);
	if (page == MAP_FAILED || write(ready, &c, 1) != 1 ||
	    read(go, &c, 1) != 1)
		return 1;
	return make_tagged(page, way) ? 0 : 1;
}

/* Returns the number of tags lost, or a negative value on a set-up error */
static long one_window(const struct scenario *s, bool *hit)
{
	size_t granules = granules_per_page();
	unsigned char tags[granules];
	int ready[2], go[2], fd, status, error;
	long lost = -1;
	char *page, c;
	pid_t child;

	*hit = false;
	fd = memfd_create("tag_init_race", 0);
	if (fd < 0)
		return -1;
	/* A page with data and no tags */
	if (ftruncate(fd, page_size()) || pwrite(fd, "data", 4, 0) != 4 ||
	    pipe(ready) || pipe(go)) {
		close(fd);
		return -1;
	}

	child = fork();
	if (!child)
		_exit(child_main(fd, s->child, ready[1], go[0]));
	close(ready[1]);
	close(go[0]);

	page = map_page(fd, s->parent);
	if (child < 0 || page == MAP_FAILED || read(ready[0], &c, 1) != 1)
		goto out;

	error = race_window_arm("mte_clear_page_tags", child,
				RACE_WINDOW_MAX_US);
	if (error) {
		ksft_print_msg("cannot arm race_window: %s\n",
			       strerror(-error));
		goto out;
	}
	if (write(go[1], &c, 1) != 1)
		goto out;

	make_random_tags(tags, granules);
	*hit = race_window_wait_hit();

	if (!make_tagged(page, s->parent))
		goto out;
	write_tags(page, tags, granules);

	race_window_release();
	if (waitpid(child, &status, 0) != child || status)
		goto out_no_child;
	lost = count_wrong_tags(page, tags, granules);
	goto out_no_child;
out:
	if (child > 0) {
		kill(child, SIGKILL);
		race_window_release();
		waitpid(child, NULL, 0);
	}
out_no_child:
	race_window_disarm();
	if (page != MAP_FAILED)
		munmap(page, page_size());
	close(ready[0]);
	close(go[1]);
	close(fd);
	return lost;
}

static void run(const struct scenario *s)
{
	long lost, granules = 0, pages = 0, errors = 0, hits = 0;
	bool hit;
	int i;

	for (i = 0; i < WINDOWS; i++) {
		lost = one_window(s, &hit);
		hits += hit;
		errors += lost < 0;
		if (lost > 0) {
			granules += lost;
			pages++;
		}
	}

	ksft_print_msg("%s: %d windows tried, %ld hit, %ld set-up errors\n",
		       s->property, WINDOWS, hits, errors);
	ksft_print_msg("%s: %ld tags lost in %ld of %d pages\n", s->property,
		       granules, pages, WINDOWS);
	ksft_test_result(hits && !errors && !pages, "%s\n", s->property);
}

int main(void)
{
	const char *skip = NULL;
	size_t i;

	ksft_print_header();
	ksft_set_plan(ARRAY_SIZE(scenarios));
	setbuf(stdout, NULL);

	if (!cpu_has_mte())
		skip = "no MTE";
	else if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		skip = "needs two CPUs: one is stuck while a task is held";
	else if (!race_window_loaded())
		skip = RACE_WINDOW_MISSING;

	run_on_cpu(0);

	for (i = 0; i < ARRAY_SIZE(scenarios); i++) {
		if (skip)
			ksft_test_result_skip("%s: %s\n",
					      scenarios[i].property, skip);
		else
			run(&scenarios[i]);
	}

	finish();
	return 0;
}
