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
 *
 * The other way round:
 *
 * 5. a huge page of a memfd, only the first page of which has valid tags
 *    (collapsed from small pages by MADV_COLLAPSE), is split by
 *    FALLOC_FL_PUNCH_HOLE; then all of it is mapped with PROT_MTE. The tags of
 *    the first page are as before, all others must read as zero, although the
 *    memory was full of other tags when the huge page was allocated.
 */
#define _GNU_SOURCE

#include <errno.h>

#include "mte_page_tags.h"
#include "mte_race_window.h"

#define STALE_TAG	0xd
#define DIRTY_BYTES	(256UL << 20)

static size_t huge;

static size_t read_huge_size(void)
{
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size",
			"r");
	size_t size = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%zu", &size) != 1)
		size = 0;
	fclose(f);
	return size;
}

static bool is_tail(const char *page)
{
	unsigned long flags = page_flags(page);

	return (flags & KPAGEFLAGS_THP) && (flags & KPAGEFLAGS_TAIL);
}

/*
 * Address space for one huge page, aligned and surrounded by nothing that it
 * could be merged with
 */
static char *reserve(char **map)
{
	char *p = mmap(NULL, 2 * huge, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	*map = p;
	if (p == MAP_FAILED)
		return NULL;
	p = (char *)(((unsigned long)p + huge - 1) & ~(huge - 1));
	return mprotect(p, huge, PLAIN) ? NULL : p;
}

/* A huge page full of data, still without any tags */
static char *map_huge_page(char **map)
{
	char *p = reserve(map);

	if (!p)
		return NULL;
	if (madvise(p, huge, MADV_HUGEPAGE)) {
		ksft_print_msg("MADV_HUGEPAGE: %s\n", strerror(errno));
		return NULL;
	}
	memset(p, 0x5a, huge);
	if (!is_tail(p + huge - page_size())) {
		ksft_print_msg("no huge page was allocated\n");
		return NULL;
	}
	return p;
}

/* Splits all huge pages that the kernel can split at this time */
static bool split_all(void)
{
	int fd = open("/sys/kernel/debug/split_huge_pages", O_WRONLY);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, "1", 1) == 1;
	close(fd);
	return ok;
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
	return !madvise(p, huge / 2, MADV_DONTNEED) && split_all();
}

static bool tags_survive(bool (*split)(char *p))
{
	size_t part = huge / 4, granules = part / GRANULE, wrong;
	unsigned char *tags = malloc(granules);
	char *map, *p, *tagged;
	bool ok = false;

	p = map_huge_page(&map);
	if (!p)
		goto out;
	tagged = p + huge - part;
	if (mprotect(tagged, part, TAGGED))
		goto out;
	make_random_tags(tags, granules);
	write_tags(tagged, tags, granules);

	if (!is_tail(tagged)) {
		ksft_print_msg("split too early\n");
		goto out;
	}
	if (!split(p))
		goto out;
	if (is_tail(tagged)) {
		ksft_print_msg("the huge page was not split\n");
		goto out;
	}

	wrong = count_wrong_tags(tagged, tags, granules);
	ksft_print_msg("%zu of %zu tags lost\n", wrong, granules);
	ok = !wrong;
out:
	if (map != MAP_FAILED)
		munmap(map, 2 * huge);
	free(tags);
	return ok;
}

static bool test_cold(void)
{
	return tags_survive(split_by_cold);
}

static bool test_pageout(void)
{
	return tags_survive(split_by_pageout);
}

static bool test_free(void)
{
	return tags_survive(split_by_free);
}

static bool test_dontneed(void)
{
	return tags_survive(split_after_dontneed);
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

/* @evidence: whether the huge page had stale tags, as far as anybody knows */
static bool split_hides_stale_tags(bool *evidence)
{
	off_t hole = huge / 4 * 3 - page_size();
	size_t stale, granules = (huge - page_size()) / GRANULE;
	char *map, *p, *rest, *tagged;
	bool ok = false;
	long cleared;
	int i, fd, ret = -1;

	fd = make_file();
	p = reserve(&map);
	if (fd < 0 || !p ||
	    mmap(p, huge, PLAIN, MAP_SHARED | MAP_FIXED, fd, 0) != p)
		goto out;
	memset(p, 0x5a, huge);
	rest = p + page_size();

	if (!dirty_free_memory(DIRTY_BYTES, STALE_TAG))
		goto out;
	for (i = 0; i < 50 && ret; i++) {
		ret = madvise(p, huge, MADV_COLLAPSE);
		if (ret)
			usleep(10000);
	}
	touch(rest);
	if (ret || !is_tail(rest)) {
		ksft_print_msg("MADV_COLLAPSE: %s\n", strerror(errno));
		goto out;
	}
	touch(p);
	if (!(page_flags(p) & KPAGEFLAGS_MTE) ||
	    (page_flags(rest) & KPAGEFLAGS_MTE)) {
		ksft_print_msg("expected tags on the first page only\n");
		goto out;
	}

	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, hole,
		      page_size())) {
		ksft_print_msg("FALLOC_FL_PUNCH_HOLE: %s\n", strerror(errno));
		goto out;
	}
	touch(rest);
	if (is_tail(rest)) {
		ksft_print_msg("the huge page was not split\n");
		goto out;
	}

	tagged = mmap(NULL, huge, TAGGED, MAP_SHARED, fd, 0);
	if (tagged == MAP_FAILED)
		goto out;
	/* Were there stale tags to be seen, or is there nothing to conclude? */
	if (race_window_loaded())
		race_window_arm("mte_clear_page_tags", getpid(), 0);
	stale = count_nonzero_tags(tagged + page_size(), granules);
	ksft_print_msg("%zu of %zu tags are stale\n", stale, granules);
	ok = !stale && get_tag(tagged) == 1;
	if (ok && race_window_loaded()) {
		cleared = race_window_stale();
		ksft_print_msg("%ld pages had stale tags to clear\n", cleared);
		*evidence = cleared > 0;
	}
	race_window_disarm();
	munmap(tagged, huge);
out:
	if (map != MAP_FAILED)
		munmap(map, 2 * huge);
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool test_stale(void)
{
	bool ok, evidence;
	int i;

	/* Which memory makes up the huge page is up to the allocator. */
	for (i = 0; i < 8; i++) {
		evidence = true;
		ok = split_hides_stale_tags(&evidence);
		if (!ok || evidence)
			return ok;
	}
	ksft_print_msg("evidence void: no huge page had stale tags\n");
	return false;
}

static bool have_collapse(void)
{
	/* The advice is looked at before the length: an unknown one is EINVAL */
	return !madvise(NULL, 0, MADV_COLLAPSE);
}

static const struct test {
	const char *property;
	bool (*run)(void);
} tests[] = {
	{ "madv_cold_beside_keeps_tags", test_cold },
	{ "madv_pageout_beside_keeps_tags", test_pageout },
	{ "madv_free_beside_keeps_tags", test_free },
	{ "split_after_partial_dontneed_keeps_tags", test_dontneed },
	{ "split_shows_no_stale_tags", test_stale },
};

static const char *missing(const struct test *t)
{
	if (!cpu_has_mte())
		return "no MTE";
	if (!huge)
		return "no transparent huge pages";
	if (geteuid() || access(KPAGEFLAGS, R_OK))
		return "cannot read " KPAGEFLAGS;
	if (t->run == test_dontneed &&
	    access("/sys/kernel/debug/split_huge_pages", W_OK))
		return "no split_huge_pages in debugfs";
	if (t->run == test_stale && !have_collapse())
		return "kernel without MADV_COLLAPSE";
	return NULL;
}

int main(void)
{
	const char *skip;
	size_t i;

	ksft_print_header();
	ksft_set_plan(ARRAY_SIZE(tests));
	setbuf(stdout, NULL);

	huge = read_huge_size();

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		skip = missing(&tests[i]);
		if (skip)
			ksft_test_result_skip("%s: %s\n", tests[i].property,
					      skip);
		else
			ksft_test_result(tests[i].run(), "%s\n",
					 tests[i].property);
	}

	finish();
	return 0;
}
