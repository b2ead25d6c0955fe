// SPDX-License-Identifier: GPL-2.0
/*
 * check_swap_tags - allocation tags of pages that go to swap and come back
 *
 * The test makes itself a zram device, uses it as swap with the highest
 * priority, and pages memory with random tags out by MADV_PAGEOUT. Every page
 * must have been swapped out, or the test has shown nothing.
 *
 * Scenarios; the property is that each tag and all data are as before:
 *
 * 1. memory of each kind is read back
 * 2. swapoff() brings the pages back
 * 3. fork() while the pages are swapped out: parent and child both find them
 * 4. shared pages are read back through a mapping without PROT_MTE, the tags
 *    are looked at through one with it
 * 5. swapoff() brings back pages that may not be accessed at this time
 *    (PROT_NONE)
 *
 * And:
 *
 * 6. tags are in place before the page is flagged as tagged: whenever
 *    mte_restore_page_tags() is entered, the flag is still clear. This one
 *    needs the race_window module, which looks at the flag there; entered
 *    never is a failure.
 * 7. a page without tags is read back through a PROT_MTE mapping. Its slot in
 *    the swap device may be given to another page before this one is mapped,
 *    and the tags of that page must not end up in this one. See
 *    test_slot_reuse().
 */
#define _GNU_SOURCE

#include "mte_page_tags.h"

#define PAGES		64
#define SWAP_BYTES	((32UL << 20) + 2 * thp_size())

static int zram = -1;

/* Swap on the first @bytes of the device */
static void swap_on(size_t bytes)
{
	must(zram_swap_on(zram, bytes), "swapon");
}

static void swap_off(void)
{
	must(zram_swap_off(zram), "swapoff");
}

static void set_up(void)
{
	if (geteuid())
		skip("needs root to set up swap");
	zram = zram_add(SWAP_BYTES);
	if (zram < 0)
		skip("no zram (" ZRAM_CONTROL "hot_add)");
	swap_on(SWAP_BYTES);
}

static void tear_down(void)
{
	if (zram >= 0)
		zram_remove(zram);
}

static void test_swap_in(const struct test *test)
{
	struct area a;

	area_create(&a, test->backing, PAGES);
	area_page_out(&a);
	area_expect_intact(&a, "read back");
}

/* arg: they may not be accessed meanwhile */
static void test_swapoff(const struct test *test)
{
	struct area a;

	area_create(&a, test->backing, PAGES);
	area_page_out(&a);
	if (test->arg)
		area_protect(&a, CLOSED);
	swap_off();
	swap_on(SWAP_BYTES);
	area_protect(&a, TAGGED);
	expect(!area_pages_out(&a), "pages are still swapped out");
	area_expect_intact(&a, "after swapoff");
}

static void test_fork(const struct test *test)
{
	struct area a;
	pid_t child;

	area_create(&a, test->backing, PAGES);
	area_page_out(&a);
	child = start_child();
	area_expect_intact(&a, child ? "parent" : "child");
	if (!child)
		_exit(0);
	wait_for(child);
}

/* Swap the pages in through another mapping, one that has no tags */
static void test_swap_in_untagged(const struct test *test)
{
	struct area a;
	char *plain;
	size_t i;

	area_create(&a, SHARED, PAGES);
	area_page_out(&a);
	plain = mmap(NULL, a.size, PLAIN, MAP_SHARED, a.fd, 0);
	must(plain != MAP_FAILED, "mmap");
	for (i = 0; i < a.size; i += page_size())
		touch(plain + i);
	expect(!area_pages_out(&a), "pages are still swapped out");
	area_expect_intact(&a, "after swap-in without PROT_MTE");
}

static void test_publication(const struct test *test)
{
	long hits, early;
	struct area a;

	need_race_window();
	area_create(&a, ANON, PAGES);
	must(!race_window_arm("mte_restore_page_tags", 0, 0, 0), "race_window");
	area_page_out(&a);
	area_expect_intact(&a, "read back");
	hits = race_window_hits();
	early = race_window_early();
	ksft_print_msg("tags restored %ld times, page flagged before %ld times\n",
		       hits, early);
	expect(hits >= PAGES && !early, "flagged before the tags were there");
}

/*
 * One slot of the swap device, two pages
 *
 * The victim's page has never been tagged and is swapped out. All other slots
 * of the (small) device are in use. The victim makes its memory PROT_MTE and
 * reads the page back; it is held, by the race_window module, when the kernel
 * has read the page and is about to map it. Has the kernel freed the slot by
 * then, it is the only free one, and another page with tags goes there.
 * Then the victim may go on, and must see no tags but zero.
 *
 * For the slot to become free there and then, the page has to be in the swap
 * cache before, and no other process may need the slot. Hence a second one that
 * shares the page since fork(), reads it back first, and exits.
 */
#define SLOTS		96
#define SLOT_TAG	0xe
#define SLOT_WINDOWS	8

enum outcome {
	NOT_HELD,		/* the victim was too fast, or the test too slow */
	SLOT_IN_USE,		/* no other page could get the slot */
	SLOT_TAKEN,		/* the test's page went into the slot */
};

struct slot {
	unsigned long entry;	/* of the victim's page in the pagemap */
	size_t seen;		/* by the victim, which shares all this */
};

/* Of the device; the machine may have other swap. */
static unsigned long free_slots(void)
{
	unsigned long size, used, slots = ~0UL;
	FILE *f = fopen("/proc/swaps", "r");
	char line[256], path[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%127s %*s %lu %lu", path, &size, &used) == 3 &&
		    !strcmp(path, zram_node(zram).text))
			slots = (size - used) / (page_size() / 1024);
	if (f)
		fclose(f);
	return slots;
}

static void victim(struct slot *slot, int ready, int go)
{
	struct area a;
	pid_t reader;
	char c = 0;

	run_on_cpu(1);
	area_map(&a, ANON, 1, PLAIN);
	a.mem[0] = 1;
	area_page_out(&a);
	slot->entry = page_frame(a.mem);

	reader = start_child();
	if (!reader) {
		touch(a.mem);
		_exit(0);
	}
	wait_for(reader);
	if (count_swapped_pages(a.mem, 1) != 1)
		try_again("the page was not left in swap");
	area_protect(&a, TAGGED);
	must(write(ready, &c, 1) == 1 && read(go, &c, 1) == 1, "pipe");

	/* Write: the kernel is to think about dropping the swap cache */
	touch_for_write(a.mem);
	slot->seen = count_nonzero_tags(a.mem, a.granules);
}

/* Put this page where the victim's was, if there is room. The victim is held meanwhile. */
static enum outcome take_slot(const struct area *page, const struct slot *slot)
{
	enum outcome outcome = NOT_HELD;
	int i;

	for (i = 0; i < 200 && outcome == NOT_HELD && race_window_is_open(); i++) {
		must(!madvise(page->mem, page->size, MADV_PAGEOUT), "MADV_PAGEOUT");
		if (count_swapped_pages(page->mem, 1) == 1 &&
		    page_frame(page->mem) == slot->entry)
			outcome = SLOT_TAKEN;
		else if (!free_slots() && i > 10)
			outcome = SLOT_IN_USE;
		else
			usleep(1000);
	}
	return race_window_is_open() ? outcome : NOT_HELD;
}

static enum outcome slot_window(struct slot *slot)
{
	struct area page, filler;
	enum outcome outcome;
	int ready[2], go[2], i;
	pid_t child;
	char c = 0;

	must(!pipe(ready) && !pipe(go), "pipe");
	area_map(&page, ANON, 1, TAGGED);
	area_map(&filler, ANON, 2 * SLOTS, PLAIN);
	child = start_child();
	if (!child) {
		victim(slot, ready[1], go[0]);
		_exit(0);
	}
	close(ready[1]);

	/* Not before: MADV_PAGEOUT leaves shared pages alone. */
	page.mem[0] = 1;
	memset(page.tags, SLOT_TAG, page.granules);
	write_tags(page.mem, page.tags, page.granules);
	/* A child that ends early is the end of the file. */
	if (read(ready[0], &c, 1) != 1)
		wait_for(child);

	/*
	 * On the victim's CPU, which has its slots from this device; and no page more,
	 * or it goes to the next device, and so do all others.
	 */
	run_on_cpu(1);
	for (i = 0; i < 2 * SLOTS; i++)
		filler.mem[i * page_size()] = 1;
	for (i = 0; i < 64 * SLOTS && free_slots(); i++)
		madvise(filler.mem + i % (2 * SLOTS) * page_size(), page_size(), MADV_PAGEOUT);
	if (free_slots())
		try_again("%lu slots are still free", free_slots());
	run_on_cpu(0);

	must(!race_window_arm_once("mte_sync_tags", child, RACE_WINDOW_MAX_US), "race_window");
	must(write(go[1], &c, 1) == 1, "pipe");
	outcome = race_window_wait_hit() ? take_slot(&page, slot) : NOT_HELD;
	race_window_release();
	wait_for(child);
	race_window_disarm();
	expect(!count_wrong_tags(page.mem, page.tags, page.granules),
	       "the tags that took the slot are lost");
	munmap(filler.mem, filler.size);
	munmap(page.mem, page.size);
	close(ready[0]);
	close(go[0]);
	close(go[1]);
	return outcome;
}

static void test_slot_reuse(const struct test *test)
{
	struct slot *slot = mmap(NULL, page_size(), PLAIN,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int i, count[SLOT_TAKEN + 1] = { 0 };
	size_t seen = 0;

	need_race_window();
	must(slot != MAP_FAILED, "mmap");
	/* The last test: it leaves a small one behind. */
	swap_off();
	swap_on(SLOTS * page_size());
	for (i = 0; i < SLOT_WINDOWS; i++) {
		slot->seen = 0;
		count[slot_window(slot)]++;
		seen += slot->seen;
	}
	ksft_print_msg("%d windows tried, %d missed\n", SLOT_WINDOWS, count[NOT_HELD]);
	ksft_print_msg("slot taken by another page in %d, in use in %d\n",
		       count[SLOT_TAKEN], count[SLOT_IN_USE]);
	expect(!seen, "%zu tags of the other page were seen", seen);
	/* A kernel that keeps the slot until the page is mapped is fine, too. */
	if (count[NOT_HELD] == SLOT_WINDOWS)
		try_again("evidence void: no window was hit");
}

static const struct test tests[] = {
	{ "swap_in_restores_tags", test_swap_in, ON(ANON) | ON(THP) | ON(SHARED) },
	{ "swapoff_restores_tags", test_swapoff, ON(ANON) | ON(SHARED) },
	{ "swapoff_of_inaccessible_pages_keeps_tags", test_swapoff, .arg = "closed" },
	{ "fork_of_swapped_pages_keeps_tags", test_fork },
	{ "shared_memory_swap_in_without_prot_mte_keeps_tags", test_swap_in_untagged },
	{ "swap_in_publishes_flag_after_tags", test_publication },
	{ "swap_in_takes_no_tags_of_a_reused_slot", test_slot_reuse },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, tear_down);
}
