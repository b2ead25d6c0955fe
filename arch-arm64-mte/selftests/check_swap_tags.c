// SPDX-License-Identifier: GPL-2.0
/*
 * check_swap_tags - allocation tags of pages that go to swap and come back
 *
 * The test makes itself a zram device, uses it as swap with the highest
 * priority, and pages memory with random tags out by MADV_PAGEOUT. The pagemap
 * must say that every page is swapped out, or the test has shown nothing.
 *
 * Scenarios; the property is that each tag and all data are as before:
 *
 * 1. memory of each kind is read back
 * 2. swapoff() brings the pages back
 * 3. fork() while the pages are swapped out: parent and child both find them
 * 4. shared pages are read back through a mapping without PROT_MTE, the tags
 *    are looked at through one with it
 * 5. swapoff() brings back pages that nobody may access at this time
 *    (PROT_NONE)
 *
 * And:
 *
 * 6. tags are in place before the page is flagged as tagged: whenever
 *    mte_restore_page_tags() is entered, the flag is still clear. This one
 *    needs the race_window module, which looks at the flag there; entered
 *    never is a failure.
 * 7. a page without tags is read back through a PROT_MTE mapping. Its slot in
 *    the swap device may be given to somebody else before the page is mapped,
 *    and the tags of that page must not end up in this one. See
 *    test_slot_reuse().
 */
#define _GNU_SOURCE

#include <signal.h>

#include "mte_page_tags.h"
#include "mte_race_window.h"
#include "mte_zram.h"

#define PAGES		64
#define SWAP_BYTES	((32UL << 20) + 2 * thp_size())

static int zram = -1;

/* Swap on the first @bytes of the device */
static bool swap_on(size_t bytes)
{
	if (zram_swap_on(zram, bytes))
		return true;
	ksft_print_msg("swapon: %s\n", strerror(errno));
	return false;
}

static bool swap_off(void)
{
	if (zram_swap_off(zram))
		return true;
	ksft_print_msg("swapoff: %s\n", strerror(errno));
	return false;
}

static const char *set_up(void)
{
	if (geteuid())
		return "needs root to set up swap";
	zram = zram_add(SWAP_BYTES);
	if (zram < 0)
		return "no zram (" ZRAM_CONTROL "hot_add)";
	if (!swap_on(SWAP_BYTES))
		return "swapon failed";
	return NULL;
}

static void tear_down(void)
{
	if (zram >= 0)
		zram_remove(zram);
}

static bool test_swap_in(const struct test *test)
{
	struct area a;

	return area_create(&a, test->backing, PAGES) && area_page_out(&a) &&
	       area_intact(&a, "read back");
}

static bool test_swapoff(const struct test *test)
{
	struct area a;

	return area_create(&a, test->backing, PAGES) && area_page_out(&a) &&
	       swap_off() && swap_on(SWAP_BYTES) &&
	       !count_swapped_pages(a.mem, PAGES) &&
	       area_intact(&a, "after swapoff");
}

static bool test_fork(const struct test *test)
{
	struct area a;
	pid_t pid;
	bool ok;

	if (!area_create(&a, test->backing, PAGES) || !area_page_out(&a))
		return false;
	pid = fork();
	if (!pid)
		_exit(!area_intact(&a, "child"));
	ok = area_intact(&a, "parent");
	return child_succeeded(pid) && ok;
}

/* Swap the pages in through another mapping, one that has no tags */
static bool test_swap_in_untagged(const struct test *test)
{
	struct area a;
	char *plain;
	size_t i;

	if (!area_create(&a, SHARED, PAGES) || !area_page_out(&a))
		return false;
	plain = mmap(NULL, a.size, PLAIN, MAP_SHARED, a.fd, 0);
	if (plain == MAP_FAILED)
		return false;
	for (i = 0; i < a.size; i += page_size())
		touch(plain + i);
	if (area_pages_out(&a)) {
		ksft_print_msg("still swapped out\n");
		return false;
	}
	return area_intact(&a, "after swap-in without PROT_MTE");
}

static bool test_swapoff_inaccessible(const struct test *test)
{
	struct area a;

	return area_create(&a, test->backing, PAGES) && area_page_out(&a) &&
	       area_protect(&a, CLOSED) && swap_off() && swap_on(SWAP_BYTES) &&
	       area_protect(&a, TAGGED) &&
	       !count_swapped_pages(a.mem, PAGES) &&
	       area_intact(&a, "after swapoff");
}

static bool test_publication(const struct test *test)
{
	long hits, early;
	struct area a;
	bool ok;
	int ret;

	if (!area_create(&a, test->backing, PAGES))
		return false;
	ret = race_window_arm("mte_restore_page_tags", 0, 0);
	if (ret) {
		ksft_print_msg("cannot arm race_window: %s\n", strerror(-ret));
		return false;
	}
	ok = area_page_out(&a) && area_intact(&a, "read back");
	hits = race_window_hits();
	early = race_window_early();
	race_window_disarm();
	ksft_print_msg("tags restored %ld times, page flagged before %ld times\n",
		       hits, early);
	return ok && hits >= PAGES && !early;
}

/*
 * One slot of the swap device, two pages
 *
 * The victim's page has never been tagged and is swapped out. All other slots
 * of the (small) device are in use. The victim makes its memory PROT_MTE and
 * reads the page back; it is held, by the race_window module, when the kernel
 * has read the page and is about to map it. Has the kernel freed the slot by
 * then, it is the only free one, and a page of ours with tags goes there.
 * Then the victim may go on, and must see no tags but zero.
 *
 * For the slot to become free there and then, the page has to be in the swap
 * cache before, and nobody else may need the slot. Hence a second process that
 * shares the page since fork(), reads it back first, and exits.
 */
#define SLOTS		96
#define SLOT_TAG	0xe
#define SLOT_WINDOWS	8

enum outcome {
	SET_UP_FAILED,
	NOT_HELD,		/* the victim was too fast, or we were too slow */
	SLOT_IN_USE,		/* nobody else could get the slot */
	SLOT_TAKEN,		/* our page went into the slot */
};

struct slot {
	char *page;
	unsigned long entry;	/* of the victim's page in the pagemap */
	size_t seen;		/* by the victim, which shares all this */
};

static unsigned long free_slots(void)
{
	unsigned long kib, slots = ~0UL;
	FILE *f = fopen("/proc/meminfo", "r");
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "SwapFree: %lu", &kib) == 1)
			slots = kib / (page_size() / 1024);
	if (f)
		fclose(f);
	return slots;
}

static int victim(struct slot *slot, int ready, int go)
{
	struct area a;
	pid_t reader;
	char c = 0;

	bind_to_cpu(0, 1);
	if (!area_map(&a, ANON, 1, PLAIN))
		return 1;
	a.mem[0] = 1;
	if (!area_page_out(&a))
		return 1;
	slot->entry = pagemap_entry(a.mem) & PAGEMAP_PFN;

	reader = fork();
	if (!reader) {
		touch(a.mem);
		_exit(0);
	}
	if (!child_succeeded(reader) ||
	    count_swapped_pages(a.mem, 1) != 1 || !area_protect(&a, TAGGED) ||
	    write(ready, &c, 1) != 1 || read(go, &c, 1) != 1)
		return 1;

	/* Write: the kernel is to think about dropping the swap cache */
	touch_for_write(a.mem);
	slot->seen = count_nonzero_tags(a.mem, a.granules);
	return 0;
}

/* Put our page where the victim's was. The victim is held meanwhile. */
static enum outcome take_slot(const struct area *ours, const struct slot *slot)
{
	int i;

	for (i = 0; i < 200 && race_window_is_open(); i++) {
		if (madvise(ours->mem, ours->size, MADV_PAGEOUT))
			break;
		if (count_swapped_pages(ours->mem, 1) == 1)
			return race_window_is_open() &&
			       (pagemap_entry(ours->mem) & PAGEMAP_PFN) ==
			       slot->entry ? SLOT_TAKEN : NOT_HELD;
		if (!free_slots() && i > 10)
			return race_window_is_open() ? SLOT_IN_USE : NOT_HELD;
		usleep(1000);
	}
	return NOT_HELD;
}

static enum outcome slot_window(struct slot *slot)
{
	enum outcome outcome = SET_UP_FAILED;
	struct area ours, filler;
	int ready[2], go[2], error, i;
	pid_t child;
	char c = 0;

	if (pipe(ready) || pipe(go) || !area_map(&ours, ANON, 1, TAGGED) ||
	    !area_map(&filler, ANON, 2 * SLOTS, PLAIN))
		return SET_UP_FAILED;

	child = fork();
	if (!child)
		_exit(victim(slot, ready[1], go[0]));
	close(ready[1]);

	/* Not before: MADV_PAGEOUT leaves shared pages alone. */
	ours.mem[0] = 1;
	memset(ours.tags, SLOT_TAG, ours.granules);
	write_tags(ours.mem, ours.tags, ours.granules);
	for (i = 0; i < 2 * SLOTS; i++)
		filler.mem[i * page_size()] = 1;
	if (child < 0 || read(ready[0], &c, 1) != 1)
		goto out;

	for (i = 0; i < 200 && free_slots(); i++) {
		madvise(filler.mem, filler.size, MADV_PAGEOUT);
		usleep(1000);
	}
	if (free_slots()) {
		ksft_print_msg("%lu slots are still free\n", free_slots());
		goto out;
	}

	race_window_limit(1);
	error = race_window_arm("mte_sync_tags", child, RACE_WINDOW_MAX_US);
	if (error) {
		ksft_print_msg("cannot arm race_window: %s\n",
			       strerror(-error));
		goto out;
	}
	if (write(go[1], &c, 1) != 1)
		goto out;
	outcome = race_window_wait_hit() ? take_slot(&ours, slot) : NOT_HELD;
	race_window_release();
	if (!child_succeeded(child))
		outcome = SET_UP_FAILED;
	child = 0;
	if (count_wrong_tags(ours.mem, ours.tags, ours.granules)) {
		ksft_print_msg("the tags that took the slot are lost\n");
		outcome = SET_UP_FAILED;
	}
out:
	if (child > 0) {
		kill(child, SIGKILL);
		race_window_release();
		waitpid(child, NULL, 0);
	}
	race_window_disarm();
	race_window_limit(0);
	area_unmap(&ours);
	area_unmap(&filler);
	close(ready[0]);
	close(go[0]);
	close(go[1]);
	return outcome;
}

static bool test_slot_reuse(const struct test *test)
{
	struct slot *slot = mmap(NULL, page_size(), PLAIN,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int i, count[SLOT_TAKEN + 1] = { 0 };
	size_t seen = 0;

	if (slot == MAP_FAILED || !swap_off() || !swap_on(SLOTS * page_size()))
		return false;
	for (i = 0; i < SLOT_WINDOWS; i++) {
		slot->seen = 0;
		count[slot_window(slot)]++;
		seen += slot->seen;
	}
	ksft_print_msg("%d windows tried, %d missed, %d set-up errors\n",
		       SLOT_WINDOWS, count[NOT_HELD], count[SET_UP_FAILED]);
	ksft_print_msg("slot taken by another page in %d, in use in %d\n",
		       count[SLOT_TAKEN], count[SLOT_IN_USE]);
	ksft_print_msg("%zu tags of the other page were seen\n", seen);
	if (!swap_off() || !swap_on(SWAP_BYTES))
		return false;
	/* A kernel that keeps the slot until the page is mapped is fine, too. */
	return !seen && !count[SET_UP_FAILED] &&
	       count[SLOT_TAKEN] + count[SLOT_IN_USE];
}

static const char *no_backing(const struct test *test)
{
	return backing_missing(test->backing);
}

static const char *no_module(const struct test *test)
{
	return race_window_missing();
}

static const struct test tests[] = {
	{ "swap_in_restores_tags", test_swap_in, NULL, ANON },
	{ "huge_page_swap_in_restores_tags", test_swap_in, no_backing, THP },
	{ "shared_memory_swap_in_restores_tags", test_swap_in, NULL, SHARED },
	{ "swapoff_restores_tags", test_swapoff, NULL, ANON },
	{ "shared_memory_swapoff_restores_tags", test_swapoff, NULL, SHARED },
	{ "fork_of_swapped_pages_keeps_tags", test_fork, NULL, ANON },
	{ "shared_memory_swap_in_without_prot_mte_keeps_tags",
	  test_swap_in_untagged },
	{ "swapoff_of_inaccessible_pages_keeps_tags",
	  test_swapoff_inaccessible, NULL, ANON },
	{ "swap_in_publishes_flag_after_tags", test_publication, no_module,
	  ANON },
	{ "swap_in_takes_no_tags_of_a_reused_slot", test_slot_reuse,
	  no_module, ANON },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, tear_down);
}
