// SPDX-License-Identifier: GPL-2.0
/*
 * check_hibernation_tags - allocation tags of pages that live through
 * hibernation
 *
 * The test needs a blank disk of its own that the kernel resumes from
 * (resume=... on its command line): it makes swap of it, sets up memory of each
 * kind, and puts the machine to sleep. It has to be switched on again. What
 * follows the resume checks the memory. Since no other test switches a machine
 * off, MTE_TEST_HIBERNATION has to be set in the environment to have this one run.
 *
 * Properties:
 *
 * 1. the machine comes back, in the same life
 * 2. all tags and data are as before, of memory of each kind, accessible or
 *    not, and of pages that were in swap already
 * 3. memory that had no tags is not flagged as having some, and has none when it
 *    becomes PROT_MTE
 * 4. the zero page has no tags
 *
 * What the tag storage holds when the machine is switched on again has nothing
 * to do with what was there before: a tag that the kernel does not restore is
 * lost.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>

#include "mte_page_tags.h"

#define PAGES		64
#define HUGETLB_PAGES	4
#define BLANK_BYTES	(1024 * 1024)
#define POWER		"/sys/power/"

enum memory {
	SMALL, HUGE, MEMFD, POOL, INACCESSIBLE, INACCESSIBLE_POOL, SWAPPED,
	UNTAGGED, ZERO_PAGE, NR_MEMORIES
};

static struct area areas[NR_MEMORIES];
static bool came_back;

/* A node for the disk, in a directory of its own */
static char dir[64], node[sizeof(dir) + 8];

/* Swap on the device that the kernel resumes from */
static void set_up_disk(void)
{
	static const char blank[4096];
	unsigned int major = 0, minor = 0;
	unsigned long long bytes;
	FILE *f = fopen(POWER "resume", "r");
	char start[sizeof(blank)];
	size_t i;
	int fd;

	if (!f)
		skip("kernel without hibernation");
	if (fscanf(f, "%u:%u", &major, &minor) != 2)
		major = 0;
	fclose(f);
	if (!major)
		skip("no resume=device on the kernel's command line");
	mkdir("/tmp", 01777);
	snprintf(dir, sizeof(dir), "/tmp/check_hibernation_tags.XXXXXX");
	must(mkdtemp(dir), "a directory for the disk");
	snprintf(node, sizeof(node), "%s/disk", dir);
	must(!mknod(node, S_IFBLK | 0600, makedev(major, minor)), "a node for the disk");
	/* No disk that is used, or has anything on it */
	fd = open(node, O_RDONLY | O_EXCL);
	if (fd < 0)
		skip("cannot open the disk: %s", strerror(errno));
	for (i = 0; i < BLANK_BYTES; i += sizeof(start)) {
		must(read(fd, start, sizeof(start)) == sizeof(start), "read");
		if (memcmp(start, blank, sizeof(start)))
			skip("the disk is not blank");
	}
	must(!ioctl(fd, BLKGETSIZE64, &bytes), "BLKGETSIZE64");
	close(fd);
	must(write_swap_header(node, bytes / page_size()) && !swapon(node, 0), "swapon");
}

static void create_areas(void)
{
	static const enum backing_type backings[NR_MEMORIES] = {
		[HUGE] = THP, [MEMFD] = SHARED, [POOL] = HUGETLB,
		[INACCESSIBLE_POOL] = HUGETLB,
	};
	struct area *a = areas;
	size_t out, i;

	for (i = 0; i < UNTAGGED; i++) {
		a[i].backing = backings[i];
		if (!backing_missing(backings[i]))
			area_create(&a[i], backings[i], PAGES);
	}
	area_map(&a[UNTAGGED], ANON, 16 * PAGES, PLAIN);
	area_fill_data(&a[UNTAGGED]);
	area_map(&a[ZERO_PAGE], ANON, PAGES, TAGGED);
	for (i = 0; i < a[ZERO_PAGE].size; i += page_size())
		touch(a[ZERO_PAGE].mem + i);

	area_protect(&a[INACCESSIBLE], CLOSED);
	if (a[INACCESSIBLE_POOL].mem)
		area_protect(&a[INACCESSIBLE_POOL], CLOSED);
	/*
	 * On a disk that takes a moment, and a page whose writing has just ended
	 * stays in the swap cache until memory gets tight.
	 */
	for (i = out = 0; i < 1000 && out < PAGES; i++) {
		must(!madvise(a[SWAPPED].mem, a[SWAPPED].size, MADV_PAGEOUT), "MADV_PAGEOUT");
		usleep(10000);
		out = count_swapped_pages(a[SWAPPED].mem, PAGES);
	}
	if (out < PAGES)
		skip("only %zu of %d pages are in swap", out, PAGES);
}

static void set_up(void)
{
	if (!getenv("MTE_TEST_HIBERNATION"))
		skip("switches the machine off; set MTE_TEST_HIBERNATION to run it");
	if (geteuid())
		skip("needs root");
	set_up_disk();
	grow_hugetlb_pools(HUGETLB_PAGES);
	create_areas();
	must(change(POWER "disk", "shutdown"), POWER "disk");
	ksft_print_msg("going to sleep\n");
	/* Nothing comes back from here if the machine is not switched on. */
	came_back = write_text(POWER "state", "disk");
	ksft_print_msg("back from sleep: %s\n", came_back ? "yes" : strerror(errno));
}

static void tear_down(void)
{
	char *blank = calloc(1, page_size());
	int fd;

	/* As it was: the disk is still the one to resume from. */
	if (!swapoff(node)) {
		fd = open(node, O_WRONLY);
		if (fd < 0 || write(fd, blank, page_size()) != (ssize_t)page_size())
			ksft_print_msg("the disk is left with a swap header\n");
		close(fd);
	}
	unlink(node);
	rmdir(dir);
}

/* arg: the area, if any */
static void test_area(const struct test *test)
{
	const struct area *a = test->arg;

	expect(came_back, "the machine did not come back");
	if (!a)
		return;
	if (!a->mem)
		skip("%s", backing_missing(a->backing));
	area_protect(a, TAGGED);
	area_expect_intact(a, "after resume");
}

static void test_untagged(const struct test *test)
{
	const struct area *a = &areas[UNTAGGED];
	size_t i, flagged = 0;

	need_page_flags();
	for (i = 0; i < a->size; i += page_size()) {
		touch(a->mem + i);
		flagged += !!(page_flags(a->mem + i) & KPF_MTE);
	}
	expect(!flagged, "%zu of %zu pages are flagged as having tags", flagged,
	       a->size / page_size());
	test_area(&(const struct test){ .arg = a });
}

static void test_zero_page(const struct test *test)
{
	const struct area *a = &areas[ZERO_PAGE];
	size_t seen;

	expect(came_back, "the machine did not come back");
	/* fork() leaves it to the child to map the zero page anew. */
	for (seen = 0; seen < a->size; seen += page_size())
		touch(a->mem + seen);
	expect(page_flags(a->mem) & KPF_ZERO, "this is not the zero page");
	seen = count_nonzero_tags(a->mem, a->granules);
	expect(!seen, "%zu of %zu tags are not zero", seen, a->granules);
}

static const struct test tests[] = {
	{ "machine_resumes_from_disk", test_area },
	{ "hibernation_keeps_tags", test_area, .arg = &areas[SMALL] },
	{ "hibernation_keeps_tags_of_huge_page", test_area, .arg = &areas[HUGE] },
	{ "hibernation_keeps_tags_of_shared_memory", test_area, .arg = &areas[MEMFD] },
	{ "hibernation_keeps_tags_of_hugetlb_page", test_area, .arg = &areas[POOL] },
	{ "hibernation_keeps_tags_of_inaccessible_page", test_area,
	  .arg = &areas[INACCESSIBLE] },
	{ "hibernation_keeps_tags_of_inaccessible_hugetlb_page", test_area,
	  .arg = &areas[INACCESSIBLE_POOL] },
	{ "hibernation_keeps_tags_of_swapped_pages", test_area, .arg = &areas[SWAPPED] },
	{ "hibernation_flags_no_untagged_memory", test_untagged },
	{ "hibernation_keeps_zero_page_without_tags", test_zero_page },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, tear_down);
}
