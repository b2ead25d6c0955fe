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

#define STALE_TAG	0xd
#define SPLIT_HUGE_PAGES	"/sys/kernel/debug/split_huge_pages"

static size_t huge;

/* Memory for a huge page; of a memfd, if @fd says where that goes */
static char *map_room(int *fd)
{
	char *p;

	skip_if(backing_missing(THP));
	p = reserve_aligned(huge, PLAIN);
	if (fd) {
		*fd = memfd_create("check_thp_split_tags", 0);
		must(*fd >= 0 && !ftruncate(*fd, huge), "memfd");
		must(mmap(p, huge, PLAIN, MAP_SHARED | MAP_FIXED, *fd, 0) == p, "mmap");
	}
	must(!madvise(p, huge, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	return p;
}

/*
 * Is this still one huge page? The kernel may leave parts of it that are large
 * themselves. The page at @hole is gone and must not come back.
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

static void punch_hole(int fd, size_t hole)
{
	must(!fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, hole, page_size()),
	     "FALLOC_FL_PUNCH_HOLE");
}

/* How to split a huge page */
struct way {
	/* Of the page before the last quarter; MADV_DONTNEED is of the first half */
	int advice;
	bool unmap, zero_data, memfd;
};

static void split(const struct way *way, char *p, int fd)
{
	size_t hole = huge / 4 * 3 - page_size();
	char text[80];

	if (way->memfd) {
		punch_hole(fd, hole);
		return;
	}
	if (!way->unmap && way->advice != MADV_DONTNEED) {
		must(!madvise(p + hole, page_size(), way->advice), "madvise");
		return;
	}
	if (way->unmap)
		munmap(p, huge / 2);
	else
		must(!madvise(p, huge / 2, MADV_DONTNEED), "MADV_DONTNEED");
	snprintf(text, sizeof(text), "%d,%p,%p", getpid(), p + huge / 2, p + huge);
	if (access(SPLIT_HUGE_PAGES, W_OK))
		skip("no split_huge_pages in debugfs");
	must(write_text(SPLIT_HUGE_PAGES, text), "split_huge_pages");
}

static void test_tags_survive(const struct test *test)
{
	size_t part = huge / 4, granules = part / GRANULE, wrong;
	unsigned char *tags = malloc(granules);
	const struct way *way = test->arg;
	char *p, *tagged;
	int fd = -1;

	p = map_room(way->memfd ? &fd : NULL);
	memset(p, 0x5a, huge);
	if (!is_one_huge_page(p, 0))
		try_again("no huge page was allocated");
	tagged = p + huge - part;
	if (way->zero_data)
		memset(tagged, 0, part);
	if (way->memfd)
		tagged = mmap(NULL, part, TAGGED, MAP_SHARED, fd, huge - part);
	else
		must(!mprotect(tagged, part, TAGGED), "mprotect");
	must(tagged != MAP_FAILED, "mmap");
	make_random_tags(tags, granules);
	write_tags(tagged, tags, granules);

	/* A write to a huge page that is mapped by small pages may copy each of them. */
	if (!is_thp_tail(tagged))
		skip("kernel that copies pages of a huge page on write");
	split(way, p, fd);
	if (way->memfd ? is_one_huge_page(p, huge - part - page_size()) : is_thp_tail(tagged))
		try_again("evidence void: the huge page was not split");

	wrong = count_wrong_tags(tagged, tags, granules);
	expect(!wrong, "%zu of %zu tags lost", wrong, granules);
}

/* Small pages with data, of which only the first one has ever been tagged */
static void test_stale(const struct test *test)
{
	size_t stale, granules = (huge - page_size()) / GRANULE;
	off_t hole = huge / 4 * 3 - page_size();
	char *p, *tagged;
	int fd;

	need_collapse();
	p = map_room(&fd);
	madvise(p, huge, MADV_NOHUGEPAGE);
	tagged = mmap(NULL, page_size(), TAGGED, MAP_SHARED, fd, 0);
	must(tagged != MAP_FAILED, "mmap");
	set_tag(tagged, 1);
	munmap(tagged, page_size());
	memset(p, 0x5a, huge);

	dirty_free_memory(THP, STALE_TAG);
	madvise(p, huge, MADV_HUGEPAGE);
	collapse(p, huge);
	touch(p);
	/* That of the others cannot be seen: kpageflags may show this one's. */
	expect(page_flags(p) & KPF_MTE, "the first page has lost its flag");

	punch_hole(fd, hole);
	if (is_one_huge_page(p, hole))
		try_again("evidence void: the huge page was not split");

	tagged = mmap(NULL, huge, TAGGED, MAP_SHARED, fd, 0);
	must(tagged != MAP_FAILED, "mmap");
	begin_evidence(getpid());
	stale = count_nonzero_tags(tagged + page_size(), granules);
	expect(!stale, "%zu of %zu tags are stale", stale, granules);
	expect(get_tag(tagged) == 1, "the tag of the first page is lost");
	end_evidence(tagged, huge);
}

static void set_up(void)
{
	huge = thp_size();
	allow_huge_memfds();
}

#define SPLIT(name, ...)	\
	{ name, test_tags_survive, .arg = &(const struct way){ __VA_ARGS__ } }

static const struct test tests[] = {
	SPLIT("madv_cold_beside_keeps_tags", .advice = MADV_COLD),
	SPLIT("madv_pageout_beside_keeps_tags", .advice = MADV_PAGEOUT),
	SPLIT("madv_free_beside_keeps_tags", .advice = MADV_FREE),
	SPLIT("split_after_partial_dontneed_keeps_tags", .advice = MADV_DONTNEED),
	SPLIT("split_after_partial_munmap_keeps_tags", .unmap = true),
	SPLIT("split_of_zero_data_keeps_tags", .advice = MADV_DONTNEED,
	      .zero_data = true),
	SPLIT("punch_hole_beside_keeps_tags", .memfd = true),
	{ "split_shows_no_stale_tags", test_stale },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, NULL);
}
