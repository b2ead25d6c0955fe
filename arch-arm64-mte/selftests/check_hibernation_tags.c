// SPDX-License-Identifier: GPL-2.0
/*
 * check_hibernation_tags - allocation tags of pages that live through
 * hibernation
 *
 * The test needs a blank disk of its own that the kernel resumes from
 * (resume=... on its command line): it makes swap of it, sets up memory of each
 * kind, and puts the machine to sleep. Somebody has to switch it on again. What
 * follows the resume checks the memory. Since no other test switches a machine
 * off, MTE_TEST_HIBERNATION has to be set in the environment to have this one run.
 *
 * Properties:
 *
 * 1. the machine comes back, in the same life
 * 2. all tags and data are as before, of memory of each kind, accessible or
 *    not, and of pages that were in swap already
 * 3. memory that had no tags has none when it becomes PROT_MTE
 * 4. the zero page has no tags
 *
 * What the tag storage holds when the machine is switched on again has nothing
 * to do with what was there before: a tag that the kernel does not restore is
 * lost.
 */
#define _GNU_SOURCE

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>

#include "mte_page_tags.h"
#include "mte_zram.h"

#define PAGES		64
#define STALE_TAG	0x9
#define HUGETLB_PAGES	4
#define BLANK_BYTES	(1024 * 1024)
#define POWER		"/sys/power/"
#define NODE		"/tmp/check_hibernation_tags.disk"

enum memory {
	SMALL, HUGE, MEMFD, POOL, INACCESSIBLE, INACCESSIBLE_POOL, SWAPPED,
	UNTAGGED, ZERO_PAGE, NR_MEMORIES
};

static struct area areas[NR_MEMORIES];
static bool came_back;
/* That of /sys/power/disk before the test */

/*
 * Have all pages in swap; on a disk that takes a moment, and a page whose
 * writing has just ended stays in the swap cache until memory gets tight.
 */
static bool send_to_swap(const struct area *a)
{
	size_t out = 0;
	int i;

	for (i = 0; i < 1000; i++) {
		if (madvise(a->mem, a->size, MADV_PAGEOUT))
			break;
		out = count_swapped_pages(a->mem, PAGES);
		if (out == PAGES)
			return true;
		usleep(10000);
	}
	ksft_print_msg("only %zu of %d pages are in swap\n", out, PAGES);
	return false;
}

/* Swap on the device that the kernel resumes from; NULL, or why there is none */
static const char *set_up_disk(void)
{
	static const char blank[4096];
	unsigned int major = 0, minor = 0;
	unsigned long long bytes;
	FILE *f = fopen(POWER "resume", "r");
	char start[sizeof(blank)];
	size_t i;
	int fd;

	if (!f)
		return "kernel without hibernation";
	if (fscanf(f, "%u:%u", &major, &minor) != 2)
		major = 0;
	fclose(f);
	if (!major)
		return "no resume=device on the kernel's command line";
	mkdir("/tmp", 01777);
	unlink(NODE);
	if (mknod(NODE, S_IFBLK | 0600, makedev(major, minor)))
		return "cannot make a node for the disk";
	/* Nobody else's disk, nor one that has anything on it */
	fd = open(NODE, O_RDONLY | O_EXCL);
	if (fd < 0)
		return "the disk is in use";
	for (i = 0; i < BLANK_BYTES; i += sizeof(start)) {
		if (read(fd, start, sizeof(start)) != sizeof(start))
			return "cannot read the disk";
		if (memcmp(start, blank, sizeof(start)))
			return "the disk is not blank";
	}
	if (ioctl(fd, BLKGETSIZE64, &bytes))
		return "cannot get the size of the disk";
	close(fd);
	if (!write_swap_header(NODE, bytes / page_size()) || swapon(NODE, 0))
		return "cannot swap to the disk";
	return NULL;
}

static bool create_areas(void)
{
	static const enum backing_type backings[NR_MEMORIES] = {
		[HUGE] = THP, [MEMFD] = SHARED, [POOL] = HUGETLB,
		[INACCESSIBLE_POOL] = HUGETLB,
	};
	struct area *a = areas;
	size_t i;

	for (i = 0; i < UNTAGGED; i++)
		if (!backing_missing(backings[i]) &&
		    !area_create(&a[i], backings[i], PAGES))
			return false;

	if (!dirty_free_memory(ANON, STALE_TAG) ||
	    !area_map(&a[UNTAGGED], ANON, 16 * PAGES, PLAIN) ||
	    !area_map(&a[ZERO_PAGE], ANON, PAGES, TAGGED))
		return false;
	area_fill_data(&a[UNTAGGED]);
	for (i = 0; i < a[ZERO_PAGE].size; i += page_size())
		touch(a[ZERO_PAGE].mem + i);

	return area_protect(&a[INACCESSIBLE], CLOSED) &&
	       (!a[INACCESSIBLE_POOL].mem ||
		area_protect(&a[INACCESSIBLE_POOL], CLOSED)) &&
	       send_to_swap(&a[SWAPPED]);
}

static const char *set_up(void)
{
	const char *why;

	if (!getenv("MTE_TEST_HIBERNATION"))
		return "switches the machine off; set MTE_TEST_HIBERNATION to run it";
	if (geteuid())
		return "needs root";
	why = set_up_disk();
	if (why)
		return why;
	grow_hugetlb_pool(HUGETLB_PAGES);
	if (!create_areas()) {
		ksft_print_msg("cannot set up the memory\n");
		return NULL;
	}
	if (!change_setting(POWER "disk", "shutdown"))
		ksft_print_msg("cannot choose to shut down: %s\n",
			       strerror(errno));
	ksft_print_msg("going to sleep\n");
	/* Nothing comes back from here if the machine is not switched on. */
	came_back = write_text(POWER "state", "disk");
	ksft_print_msg("back from sleep: %s\n",
		       came_back ? "yes" : strerror(errno));
	return NULL;
}

static void tear_down(void)
{
	char *blank = calloc(1, page_size());
	int fd;

	/* As it was: the disk is still the one to resume from. */
	if (!swapoff(NODE)) {
		fd = open(NODE, O_WRONLY);
		if (fd < 0 || write(fd, blank, page_size()) != (ssize_t)page_size())
			ksft_print_msg("the disk is left with a swap header\n");
		close(fd);
	}
	unlink(NODE);
}

static bool test_came_back(const struct test *test)
{
	return came_back;
}

/* arg: the area */
static bool test_area(const struct test *test)
{
	const struct area *a = test->arg;

	return came_back && area_protect(a, TAGGED) &&
	       area_intact(a, "after resume");
}

static bool test_zero_page(const struct test *test)
{
	const struct area *a = test->arg;
	size_t seen;

	if (!came_back)
		return false;
	/* fork() leaves it to the child to map the zero page anew. */
	for (seen = 0; seen < a->size; seen += page_size())
		touch(a->mem + seen);
	if (!(page_flags(a->mem) & KPAGEFLAGS_ZERO)) {
		ksft_print_msg("this is not the zero page\n");
		return false;
	}
	seen = count_nonzero_tags(a->mem, a->granules);
	ksft_print_msg("%zu of %zu tags are not zero\n", seen, a->granules);
	return !seen;
}

static const char *no_area(const struct test *test)
{
	return backing_missing(test->backing);
}

static const struct test tests[] = {
	{ "machine_resumes_from_disk", test_came_back },
	{ "hibernation_keeps_tags", test_area, .arg = &areas[SMALL] },
	{ "hibernation_keeps_tags_of_huge_page", test_area, no_area, THP,
	  &areas[HUGE] },
	{ "hibernation_keeps_tags_of_shared_memory", test_area,
	  .arg = &areas[MEMFD] },
	{ "hibernation_keeps_tags_of_hugetlb_page", test_area, no_area, HUGETLB,
	  &areas[POOL] },
	{ "hibernation_keeps_tags_of_inaccessible_page", test_area,
	  .arg = &areas[INACCESSIBLE] },
	{ "hibernation_keeps_tags_of_inaccessible_hugetlb_page", test_area,
	  no_area, HUGETLB, &areas[INACCESSIBLE_POOL] },
	{ "hibernation_keeps_tags_of_swapped_pages", test_area,
	  .arg = &areas[SWAPPED] },
	{ "hibernation_shows_no_stale_tags", test_area,
	  .arg = &areas[UNTAGGED] },
	{ "hibernation_keeps_zero_page_without_tags", test_zero_page,
	  .arg = &areas[ZERO_PAGE] },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, tear_down);
}
