// SPDX-License-Identifier: GPL-2.0
/*
 * check_tag_init_race - a page becomes tagged while somebody else uses it
 *
 * The kernel initialises the allocation tags of a page when the page is mapped
 * with PROT_MTE for the first time. Two who share the page may get there
 * together: mprotect() of one process is no obstacle to another one.
 *
 * Two initialisers. The page of a memfd holds data and has never been tagged.
 * A child enters the kernel to map it with PROT_MTE and is held, by the
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
 * 4. both by the first access
 * 5. the same, but the child is a thread: same memory, another mapping. For
 *    mprotect() one of them would have to wait for the other.
 *
 * Property: every tag that the parent has set is there in the end.
 *
 * Initialisation beside copy-on-write. A page of private memory, which has
 * tags left over from a previous owner and has never been tagged since, is
 * shared after fork().
 *
 * 6. The child makes it PROT_MTE and is held before the tags are cleared. The
 *    parent writes to the page, gets a copy, makes that PROT_MTE, and must see
 *    no tags but zero.
 *
 * Each result says how many windows were tried and in how many the child was
 * in fact held; if it was in none, the test is skipped.
 */
#define _GNU_SOURCE

#include <sched.h>
#include <signal.h>

#include "mte_page_tags.h"
#include "mte_race_window.h"

#define WINDOWS		8
#define CLEAR_TAGS	"mte_clear_page_tags"
#define STALE_TAG	0xb
/*
 * Ample for what the parent does meanwhile. Where it has to wait for the child
 * instead, nobody ends the hold but this.
 */
#define HOLD_US		400000

/* So far apart that two mappings do not share a page table and its lock */
#define FAR		(page_size() * page_size() / 4)

enum way { BY_MPROTECT, BY_FIRST_ACCESS };

struct sides {
	enum way child, parent;
	bool thread;
};

/* What the two have in common; the child's part of the address space first */
struct window {
	const struct sides *sides;
	int fd, ready[2], go[2];
	char *space;
};

/* A mapping of the page that make_tagged() turns into one with tags */
static char *map_page(const struct window *w, char *where, enum way way)
{
	char *page = mmap(where, page_size(),
			  way == BY_MPROTECT ? PLAIN : TAGGED,
			  MAP_SHARED | MAP_FIXED, w->fd, 0);

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

/* Tell that we are ready, wait for the start */
static bool meet(const struct window *w)
{
	char c = 0;

	return write(w->ready[1], &c, 1) == 1 && read(w->go[0], &c, 1) == 1;
}

static int initialiser(void *arg)
{
	const struct window *w = arg;
	enum way way = w->sides->child;
	char *page;

	bind_to_cpu(0, 1);
	page = map_page(w, w->space, way);
	return page != MAP_FAILED && meet(w) && make_tagged(page, way) ? 0 : 1;
}

/* A child that shares the memory and nothing else */
static pid_t start_thread(struct window *w)
{
	size_t size = 64UL << 10;
	char *stack = malloc(size);

	return clone(initialiser, stack + size, CLONE_VM | SIGCHLD, w);
}

static pid_t start_process(struct window *w, int (*run)(void *))
{
	pid_t child = fork();

	if (!child)
		_exit(run(w));
	return child;
}

/* Let the child go once it is ready and being watched */
static bool let_go(const struct window *w, pid_t child)
{
	char c;
	int error;

	/* A child that ends early is the end of the file. */
	close(w->ready[1]);
	if (read(w->ready[0], &c, 1) != 1)
		return false;
	error = race_window_arm(CLEAR_TAGS, child, HOLD_US);
	if (error)
		ksft_print_msg("cannot arm race_window: %s\n",
			       strerror(-error));
	return !error && write(w->go[1], &c, 1) == 1;
}

static bool window_open(struct window *w)
{
	w->space = mmap(NULL, 2 * FAR, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	w->fd = memfd_create("tag_init_race", 0);
	/* A page with data and no tags */
	return w->space != MAP_FAILED && w->fd >= 0 &&
	       !ftruncate(w->fd, page_size()) &&
	       pwrite(w->fd, "data", 4, 0) == 4 && !pipe(w->ready) &&
	       !pipe(w->go);
}

/* The end of the child; false if it did not do its part, or @ok is */
static bool finish(pid_t child, bool ok)
{
	if (!ok && child > 0)
		kill(child, SIGKILL);
	race_window_release();
	return child_succeeded(child) && ok;
}

static void window_close(struct window *w)
{
	race_window_disarm();
	close(w->ready[0]);
	close(w->go[0]);
	close(w->go[1]);
	close(w->fd);
	munmap(w->space, 2 * FAR);
}

/* Returns the number of tags lost, or a negative value on a set-up error */
static long two_initialisers(const struct sides *sides, bool *hit)
{
	struct window w = { .sides = sides };
	size_t granules = granules_per_page();
	unsigned char tags[granules];
	long lost = -1;
	pid_t child;
	char *page;
	bool ok;

	if (!window_open(&w))
		return -1;
	child = sides->thread ? start_thread(&w) :
				start_process(&w, initialiser);
	page = map_page(&w, w.space + FAR, sides->parent);
	make_random_tags(tags, granules);

	ok = child > 0 && page != MAP_FAILED && let_go(&w, child);
	if (ok) {
		*hit = race_window_wait_hit();
		ok = make_tagged(page, sides->parent);
		write_tags(page, tags, granules);
	}
	if (finish(child, ok))
		lost = count_wrong_tags(page, tags, granules);
	window_close(&w);
	return lost;
}

static bool test_two_initialisers(const struct test *test)
{
	long lost, granules = 0, pages = 0, errors = 0, hits = 0;
	int i;

	for (i = 0; i < WINDOWS; i++) {
		bool hit = false;

		lost = two_initialisers(test->arg, &hit);
		hits += hit;
		errors += lost < 0;
		if (lost > 0) {
			granules += lost;
			pages++;
		}
	}

	ksft_print_msg("%d windows tried, %ld hit, %ld set-up errors\n",
		       WINDOWS, hits, errors);
	ksft_print_msg("%ld tags lost in %ld of %d pages\n", granules, pages,
		       WINDOWS);
	if (!hits && !errors)
		proves_nothing("evidence void: no window was hit");
	return !errors && !pages;
}

static int make_private_page_tagged(void *arg)
{
	struct window *w = arg;

	bind_to_cpu(0, 1);
	return meet(w) && make_tagged(w->space, BY_MPROTECT) ? 0 : 1;
}

/* Returns the number of stale tags seen, or negative on a set-up error */
static long copy_beside_initialiser(bool *hit, long *evidence)
{
	long seen = -1;
	struct window w;
	pid_t child;
	bool ok;

	if (!window_open(&w) || mprotect(w.space, page_size(), PLAIN) ||
	    !dirty_free_memory(ANON, STALE_TAG))
		return -1;
	memset(w.space, 0x5a, page_size());
	child = start_process(&w, make_private_page_tagged);

	ok = child > 0 && let_go(&w, child);
	if (ok) {
		*hit = race_window_wait_hit();
		*evidence += race_window_stale();
		w.space[0] = 1;
		ok = make_tagged(w.space, BY_MPROTECT);
	}
	if (finish(child, ok))
		seen = count_nonzero_tags(w.space, granules_per_page());
	window_close(&w);
	return seen;
}

static bool test_copy_beside_initialiser(const struct test *test)
{
	long seen, granules = 0, errors = 0, hits = 0, evidence = 0;
	int i;

	for (i = 0; i < WINDOWS; i++) {
		bool hit = false;

		seen = copy_beside_initialiser(&hit, &evidence);
		hits += hit;
		errors += seen < 0;
		if (seen > 0)
			granules += seen;
	}

	ksft_print_msg("%d windows tried, %ld hit, %ld with stale tags below, %ld set-up errors\n",
		       WINDOWS, hits, evidence, errors);
	ksft_print_msg("%ld stale tags seen\n", granules);
	if (!errors && !granules && (!hits || !evidence))
		proves_nothing("evidence void: no window was hit, or no stale tags");
	return !errors && !granules;
}

static const char *no_window(const struct test *test)
{
	return race_window_missing();
}

#define TWO(name, by_child, by_parent, is_thread) {			\
	.property = name,						\
	.run = test_two_initialisers,					\
	.missing = no_window,						\
	.arg = &(const struct sides){ by_child, by_parent, is_thread },	\
}

static const struct test tests[] = {
	TWO("tags_survive_mprotect_beside_mprotect",
	    BY_MPROTECT, BY_MPROTECT, false),
	TWO("tags_survive_mprotect_beside_first_access",
	    BY_MPROTECT, BY_FIRST_ACCESS, false),
	TWO("tags_survive_first_access_beside_mprotect",
	    BY_FIRST_ACCESS, BY_MPROTECT, false),
	TWO("tags_survive_first_access_beside_first_access",
	    BY_FIRST_ACCESS, BY_FIRST_ACCESS, false),
	TWO("tags_survive_first_access_of_two_threads",
	    BY_FIRST_ACCESS, BY_FIRST_ACCESS, true),
	{ "copy_beside_mprotect_shows_no_stale_tags",
	  test_copy_beside_initialiser, no_window },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), NULL, NULL);
}
