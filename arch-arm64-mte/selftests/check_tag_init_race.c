// SPDX-License-Identifier: GPL-2.0
/*
 * check_tag_init_race - a page becomes tagged while another context uses it
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

#include "mte_page_tags.h"

#define WINDOWS		8
#define CLEAR_TAGS	"mte_clear_page_tags"
#define STALE_TAG	0xb
/*
 * Ample for what the parent does meanwhile. Where it has to wait for the child
 * instead, nothing ends the hold but this.
 */
#define HOLD_US		400000

/* So far apart that two mappings do not share a page table (of page size / 8 entries) */
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
	char *page = mmap(where, page_size(), way == BY_MPROTECT ? PLAIN : TAGGED,
			  MAP_SHARED | MAP_FIXED, w->fd, 0);

	must(page != MAP_FAILED, "mmap");
	/* mprotect() only looks at pages that are mapped */
	if (way == BY_MPROTECT)
		touch(page);
	return page;
}

static void make_tagged(char *page, enum way way)
{
	if (way == BY_MPROTECT)
		must(!mprotect(page, page_size(), TAGGED), "mprotect");
	else
		touch(page);
}

/* The child; it tells that it is ready, and waits for the start */
static int initialiser(void *arg)
{
	const struct window *w = arg;
	enum way way = w->sides ? w->sides->child : BY_MPROTECT;
	char *page = w->space, c = 0;

	run_on_cpu(1);
	if (w->sides)
		page = map_page(w, w->space, way);
	must(write(w->ready[1], &c, 1) == 1 && read(w->go[0], &c, 1) == 1, "pipe");
	make_tagged(page, way);
	return 0;
}

/* A child that shares the memory and nothing else, or not even that */
static pid_t start(struct window *w)
{
	size_t size = 64UL << 10;
	pid_t child;

	if (w->sides && w->sides->thread) {
		child = clone(initialiser, (char *)malloc(size) + size, CLONE_VM | SIGCHLD, w);
		must(child > 0, "clone");
		return child;
	}
	child = start_child();
	if (!child)
		_exit(initialiser(w));
	return child;
}

static void window_open(struct window *w, const struct sides *sides)
{
	w->sides = sides;
	w->space = mmap(NULL, 2 * FAR, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	must(w->space != MAP_FAILED, "mmap");
	must(!pipe(w->ready) && !pipe(w->go), "pipe");
	w->fd = memfd_create("tag_init_race", 0);
	/* A page with data and no tags */
	must(w->fd >= 0 && !ftruncate(w->fd, page_size()) &&
	     pwrite(w->fd, "data", 4, 0) == 4, "memfd");
}

/* Let the child go once it is ready and being watched. Returns whether it was held. */
static bool let_go(const struct window *w, pid_t child)
{
	char c;

	/* A child that ends early is the end of the file. */
	close(w->ready[1]);
	if (read(w->ready[0], &c, 1) != 1)
		wait_for(child);
	must(!race_window_arm(CLEAR_TAGS, child, HOLD_US, 0), "race_window");
	must(write(w->go[1], &c, 1) == 1, "pipe");
	return race_window_wait_hit();
}

static void window_close(struct window *w, pid_t child)
{
	race_window_release();
	wait_for(child);
	race_window_disarm();
	close(w->ready[0]);
	close(w->go[0]);
	close(w->go[1]);
	close(w->fd);
}

static void test_two_initialisers(const struct test *test)
{
	size_t granules = granules_per_page(), lost = 0, now, pages = 0;
	const struct sides *sides = test->arg;
	unsigned char tags[granules];
	struct window w;
	int i, hits = 0;
	pid_t child;
	char *page;

	need_race_window();
	for (i = 0; i < WINDOWS; i++) {
		window_open(&w, sides);
		child = start(&w);
		page = map_page(&w, w.space + FAR, sides->parent);
		make_random_tags(tags, granules);
		hits += let_go(&w, child);
		make_tagged(page, sides->parent);
		write_tags(page, tags, granules);
		window_close(&w, child);
		now = count_wrong_tags(page, tags, granules);
		lost += now;
		pages += !!now;
		munmap(w.space, 2 * FAR);
	}
	ksft_print_msg("%d windows tried, %d hit\n", WINDOWS, hits);
	expect(!lost, "%zu tags lost in %zu of %d pages", lost, pages, WINDOWS);
	if (!hits)
		try_again("evidence void: no window was hit");
}

static void test_copy_beside_initialiser(const struct test *test)
{
	int i, hits = 0, evidence = 0;
	struct window w;
	size_t seen = 0;
	pid_t child;

	need_race_window();
	for (i = 0; i < WINDOWS; i++) {
		window_open(&w, NULL);
		must(!mprotect(w.space, page_size(), PLAIN), "mprotect");
		dirty_free_memory(ANON, STALE_TAG);
		memset(w.space, 0x5a, page_size());
		child = start(&w);
		hits += let_go(&w, child);
		evidence += race_window_stale();
		w.space[0] = 1;
		make_tagged(w.space, BY_MPROTECT);
		window_close(&w, child);
		seen += count_nonzero_tags(w.space, granules_per_page());
		munmap(w.space, 2 * FAR);
	}
	ksft_print_msg("%d windows tried, %d hit, %d with stale tags below\n", WINDOWS, hits,
		       evidence);
	expect(!seen, "%zu stale tags seen", seen);
	if (!hits || !evidence)
		try_again("evidence void: no window was hit, or no stale tags");
}

#define TWO(name, ...)	\
	{ name, test_two_initialisers, .arg = &(const struct sides){ __VA_ARGS__ } }

static const struct test tests[] = {
	TWO("tags_survive_mprotect_beside_mprotect", BY_MPROTECT, BY_MPROTECT),
	TWO("tags_survive_mprotect_beside_first_access", BY_MPROTECT, BY_FIRST_ACCESS),
	TWO("tags_survive_first_access_beside_mprotect", BY_FIRST_ACCESS, BY_MPROTECT),
	TWO("tags_survive_first_access_beside_first_access",
	    BY_FIRST_ACCESS, BY_FIRST_ACCESS),
	TWO("tags_survive_first_access_of_two_threads",
	    BY_FIRST_ACCESS, BY_FIRST_ACCESS, .thread = true),
	{ "copy_beside_mprotect_shows_no_stale_tags", test_copy_beside_initialiser },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), NULL, NULL);
}
