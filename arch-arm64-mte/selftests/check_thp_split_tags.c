// SPDX-License-Identifier: GPL-2.0
/*
 * check_thp_split_tags - allocation tags when a transparent huge page is split
 *
 * PROT_MTE may cover a part of a huge page only, so that some of its pages have
 * valid tags and others have none. Splitting the huge page must not change
 * which is which.
 *
 * The test maps a huge page, makes its last quarter PROT_MTE, sets random tags
 * there and then does something to other pages of the huge page that makes the
 * kernel split it. /proc/kpageflags must say that there was a huge page and
 * that there is none any more, or the test has shown nothing.
 *
 * Scenarios, by what causes the split; the property is the same, all tags of
 * the last quarter are as before:
 *
 * 1. MADV_COLD on the page before the last quarter
 * 2. MADV_PAGEOUT on it
 * 3. MADV_FREE on it
 * 4. MADV_DONTNEED on the first half, later a split of what is only partly
 *    mapped (debugfs: split_huge_pages), as reclaim would do
 * 5. the same after munmap() of the first half
 * 6. as 4, with nothing but zeros in the last quarter: a split may replace pages
 *    of zeros by the zero page, but not tagged ones
 *
 * And for a huge page of a memfd, whose last quarter has tags in another mapping:
 *
 * 7. FALLOC_FL_PUNCH_HOLE of the page before
 *
 * The other way round:
 *
 * 8. a huge page of a memfd, only the first page of which has valid tags
 *    (collapsed from small pages by MADV_COLLAPSE), is split by
 *    FALLOC_FL_PUNCH_HOLE; then all of it is mapped with PROT_MTE. The tags of
 *    the first page are as before, all others must read as zero, although the
 *    memory was full of other tags when the huge page was allocated.
 */
#define _GNU_SOURCE

#include "mte_page_tags.h"
#include "mte_race_window.h"

#define STALE_TAG	0xd
#define SPLIT_HUGE_PAGES	"/sys/kernel/debug/split_huge_pages"

static size_t huge;

/* A huge page full of data, still without any tags */
static char *map_huge_page(void)
{
	char *p = reserve_aligned(huge, PLAIN);

	if (!p)
		return NULL;
	if (madvise(p, huge, MADV_HUGEPAGE)) {
		ksft_print_msg("MADV_HUGEPAGE: %s\n", strerror(errno));
		return NULL;
	}
	memset(p, 0x5a, huge);
	if (!is_thp_tail(p + huge - page_size())) {
		proves_nothing("no huge page was allocated");
		return NULL;
	}
	return p;
}

/* Splits the huge page whose second half is still mapped */
static bool split_rest(const char *p)
{
	char text[80];

	snprintf(text, sizeof(text), "%d,%p,%p", getpid(), p + huge / 2, p + huge);
	/* Without ranges: all huge pages of the machine */
	return write_text(SPLIT_HUGE_PAGES, text) ||
	       (errno == EINVAL && write_text(SPLIT_HUGE_PAGES, "1"));
}

static bool split_by_advice(char *p, int advice)
{
	char *neighbour = p + huge / 4 * 3 - page_size();

	if (madvise(neighbour, page_size(), advice)) {
		ksft_print_msg("madvise(%d): %s\n", advice, strerror(errno));
		return false;
	}
	return true;
}

static bool split_by_cold(char *p)
{
	return split_by_advice(p, MADV_COLD);
}

static bool split_by_pageout(char *p)
{
	return split_by_advice(p, MADV_PAGEOUT);
}

static bool split_by_free(char *p)
{
	return split_by_advice(p, MADV_FREE);
}

static bool split_after_dontneed(char *p)
{
	return !madvise(p, huge / 2, MADV_DONTNEED) && split_rest(p);
}

static bool split_by_unmap(char *p)
{
	return !munmap(p, huge / 2) && split_rest(p);
}

/* How to split the huge page at @p */
struct way {
	bool (*split)(char *p);
	/* All data of the tagged part is zero */
	bool zero_data;
};

static bool test_tags_survive(const struct test *test)
{
	size_t part = huge / 4, granules = part / GRANULE, wrong;
	unsigned char *tags = malloc(granules);
	const struct way *way = test->arg;
	char *p = map_huge_page(), *tagged;

	if (!p)
		return false;
	tagged = p + huge - part;
	if (way->zero_data)
		memset(tagged, 0, part);
	if (mprotect(tagged, part, TAGGED))
		return false;
	make_random_tags(tags, granules);
	write_tags(tagged, tags, granules);

	if (!is_thp_tail(tagged))
		proves_nothing("evidence void: split too early");
	if (!way->split(p))
		return false;
	if (is_thp_tail(tagged))
		proves_nothing("evidence void: the huge page was not split");

	wrong = count_wrong_tags(tagged, tags, granules);
	ksft_print_msg("%zu of %zu tags lost\n", wrong, granules);
	return !wrong;
}

/*
 * Is the page cache still one huge page? The kernel may leave parts of it that
 * are large themselves. The page at @hole is gone and must not come back.
 */
static bool is_one_huge_page(const char *p, size_t hole)
{
	size_t i;

	for (i = page_size(); i < huge; i += page_size()) {
		if (i == hole)
			continue;
		touch(p + i);
		if (!is_thp_tail(p + i))
			return false;
	}
	return true;
}

static bool punch_hole(int fd, size_t hole)
{
	if (!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, hole,
		       page_size()))
		return true;
	ksft_print_msg("FALLOC_FL_PUNCH_HOLE: %s\n", strerror(errno));
	return false;
}

/* The same for a huge page of a memfd: another mapping has tags of the part */
static bool test_shared_tags_survive(const struct test *test)
{
	size_t part = huge / 4, granules = part / GRANULE, wrong;
	size_t hole = huge - part - page_size();
	unsigned char *tags = malloc(granules);
	char *p = reserve_aligned(huge, PLAIN), *tagged;
	int fd = memfd_create("check_thp_split_tags", 0);

	if (!p || fd < 0 || ftruncate(fd, huge) ||
	    mmap(p, huge, PLAIN, MAP_SHARED | MAP_FIXED, fd, 0) != p ||
	    madvise(p, huge, MADV_HUGEPAGE))
		return false;
	memset(p, 0x5a, huge);
	if (!is_one_huge_page(p, huge)) {
		proves_nothing("no huge page was allocated");
		return false;
	}
	tagged = mmap(NULL, part, TAGGED, MAP_SHARED, fd, huge - part);
	if (tagged == MAP_FAILED)
		return false;
	make_random_tags(tags, granules);
	write_tags(tagged, tags, granules);
	if (!punch_hole(fd, hole))
		return false;
	if (is_one_huge_page(p, hole))
		proves_nothing("evidence void: the huge page was not split");
	wrong = count_wrong_tags(tagged, tags, granules);
	ksft_print_msg("%zu of %zu tags lost\n", wrong, granules);
	return !wrong;
}

/* Small pages with data, of which only the first one has ever been tagged */
static int make_file(void)
{
	int fd = memfd_create("check_thp_split_tags", 0);
	char *p = MAP_FAILED;
	bool ok = false;

	if (fd < 0)
		return -1;
	if (!ftruncate(fd, huge))
		p = mmap(NULL, page_size(), TAGGED, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED) {
		set_tag(p, 1);
		ok = get_tag(p) == 1;
		munmap(p, page_size());
	}
	if (ok)
		return fd;
	close(fd);
	return -1;
}

static bool test_stale(const struct test *test)
{
	off_t hole = huge / 4 * 3 - page_size();
	size_t stale, granules = (huge - page_size()) / GRANULE;
	char *p, *rest, *tagged;
	bool ok = false;
	long cleared;
	int i, fd, ret = -1;

	fd = make_file();
	p = reserve_aligned(huge, PLAIN);
	if (fd < 0 || !p ||
	    mmap(p, huge, PLAIN, MAP_SHARED | MAP_FIXED, fd, 0) != p)
		goto out;
	memset(p, 0x5a, huge);
	rest = p + page_size();

	if (!dirty_free_memory(THP, STALE_TAG))
		goto out;
	for (i = 0; i < 50 && ret; i++) {
		ret = madvise(p, huge, MADV_COLLAPSE);
		if (ret)
			usleep(10000);
	}
	touch(rest);
	if (ret || !is_thp_tail(rest))
		proves_nothing("evidence void: no huge page by MADV_COLLAPSE");
	touch(p);
	/* That of the others cannot be seen: kpageflags may show this one's. */
	if (!(page_flags(p) & KPAGEFLAGS_MTE)) {
		ksft_print_msg("the first page has lost its flag\n");
		goto out;
	}

	if (!punch_hole(fd, hole))
		goto out;
	if (is_one_huge_page(p, hole))
		proves_nothing("evidence void: the huge page was not split");

	tagged = mmap(NULL, huge, TAGGED, MAP_SHARED, fd, 0);
	if (tagged == MAP_FAILED)
		goto out;
	/* Were there stale tags to be seen, or is there nothing to conclude? */
	if (!race_window_watch("mte_clear_page_tags", getpid()))
		goto unmap;
	stale = count_nonzero_tags(tagged + page_size(), granules);
	ksft_print_msg("%zu of %zu tags are stale\n", stale, granules);
	ok = !stale && get_tag(tagged) == 1;
	cleared = race_window_watched();
	ok = ok && had_stale_tags(cleared, tagged, huge);
unmap:
	munmap(tagged, huge);
out:
	if (p)
		unreserve_aligned(p, huge);
	if (fd >= 0)
		close(fd);
	return ok;
}

static const char *no_huge_pages(const struct test *test)
{
	const struct way *way = test->arg;

	if (!huge)
		return "no transparent huge pages";
	if (geteuid() || access(KPAGEFLAGS, R_OK))
		return "cannot read " KPAGEFLAGS;
	if (way && (way->split == split_after_dontneed ||
		    way->split == split_by_unmap) &&
	    access(SPLIT_HUGE_PAGES, W_OK))
		return "no split_huge_pages in debugfs";
	return NULL;
}

/*
 * Where a write to a huge page that is mapped by small pages copies each of them,
 * no page with tags is left in the huge page.
 */
static const char *no_partly_tagged(const struct test *test)
{
	const char *why = no_huge_pages(test);
	char *p, *last;

	if (why)
		return why;
	p = map_huge_page();
	if (!p)
		return NULL;
	last = p + huge - page_size();
	if (!mprotect(last, page_size(), TAGGED)) {
		set_tag(last, 1);
		if (!is_thp_tail(last))
			why = "kernel that copies pages of a huge page on write";
	}
	unreserve_aligned(p, huge);
	return why;
}

static const char *no_collapse(const struct test *test)
{
	const char *why = collapse_missing();

	return why ? why : no_huge_pages(test);
}

#define SPLIT(name, by, ...) {						\
	.property = name,						\
	.run = test_tags_survive,					\
	.missing = no_partly_tagged,					\
	.arg = &(const struct way){ .split = by, __VA_ARGS__ },		\
}

static const struct test tests[] = {
	SPLIT("madv_cold_beside_keeps_tags", split_by_cold),
	SPLIT("madv_pageout_beside_keeps_tags", split_by_pageout),
	SPLIT("madv_free_beside_keeps_tags", split_by_free),
	SPLIT("split_after_partial_dontneed_keeps_tags", split_after_dontneed),
	SPLIT("split_after_partial_munmap_keeps_tags", split_by_unmap),
	SPLIT("split_of_zero_data_keeps_tags", split_after_dontneed,
	      .zero_data = true),
	{ "punch_hole_beside_keeps_tags", test_shared_tags_survive,
	  no_huge_pages },
	{ "split_shows_no_stale_tags", test_stale, no_collapse },
};

static const char *set_up(void)
{
	huge = thp_size();
	allow_huge_memfds();
	return NULL;
}

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, NULL);
}
