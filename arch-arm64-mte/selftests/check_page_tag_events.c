// SPDX-License-Identifier: GPL-2.0
/*
 * check_page_tag_events - allocation tags when something happens to their page
 *
 * Tags that were set must survive whatever the kernel does with the memory:
 *
 * - copy-on-write after fork(), by parent and child, and of a file's pages by
 *   a private mapping that has no PROT_MTE when it happens
 * - mprotect() of many different parts, back and forth
 * - migration to another page frame (MADV_SOFT_OFFLINE; the old one is lost to
 *   the machine, so MTE_TEST_SOFT_OFFLINE has to be set in the environment)
 * - the collapse of small pages into a huge page, when only some of them have
 *   tags (MADV_COLLAPSE)
 * - same-page merging (KSM): pages with the same data and tags are not merged,
 *   nor are pages of zeros replaced by the zero page
 * - UFFDIO_MOVE
 * - remap_file_pages(): the new mapping has PROT_MTE as the old one had, so that
 *   it shows the tags of the pages that it is of now, and they can be changed
 *
 * and the tags of memory that were never set must be zero, whatever the page
 * frame was used for before:
 *
 * - PROT_MTE memory that is new
 * - memory that was used without PROT_MTE and gets it by mprotect()
 * - the zero page, the huge zero page, and their copies
 * - pages that were merged while they had no tags
 * - the untagged pages of a collapsed huge page
 * - memory filled by UFFDIO_COPY and UFFDIO_ZEROPAGE
 *
 * A test for stale tags leaves tags behind in free memory first. The race_window
 * module, which looks at pages whose tags are about to be cleared, must have seen
 * such a page; without it, one of the page frames must have been among those.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "mte_page_tags.h"

#define PAGES		16
#define STALE_TAG	0xd
#define HUGETLB_PAGES	6
#define KSM		"/sys/kernel/mm/ksm/"

static void set_up(void)
{
	grow_hugetlb_pools(HUGETLB_PAGES);
}

static void need_page_frames(void)
{
	if (geteuid())
		skip("needs root to see page frames");
}

static void list_frames(const struct area *a, unsigned long *frames)
{
	size_t i;

	for (i = 0; i < a->size / page_size(); i++)
		frames[i] = page_frame(a->mem + i * page_size());
}

/* How many of the pages of @a are in the same page frame as @frames says */
static size_t count_unmoved(const struct area *a, const unsigned long *frames)
{
	size_t i, same = 0;

	for (i = 0; i < a->size / page_size(); i++)
		same += page_frame(a->mem + i * page_size()) == frames[i];
	return same;
}

/* Write to all pages without changing anything */
static void write_all_pages(const struct area *a)
{
	size_t i;

	for (i = 0; i < a->size; i += page_size())
		touch_for_write(a->mem + i);
}

/* Write to every page of a copy, so that it becomes one's own; look at it */
static void expect_own_copy(const struct area *a, const char *who)
{
	size_t pages = a->size / page_size(), same;
	unsigned long frames[pages];

	list_frames(a, frames);
	write_all_pages(a);
	same = count_unmoved(a, frames);
	expect(!same, "%s: %zu of %zu pages were not copied", who, same, pages);
	area_protect(a, TAGGED);
	area_expect_intact(a, who);
}

static void test_cow(const struct test *test)
{
	unsigned char *tags;
	struct area a;
	pid_t child;

	need_page_frames();
	area_create(&a, test->backing, PAGES);
	child = start_child();
	if (!child) {
		expect_own_copy(&a, "child");
		/* None of these may show up in the parent's memory. */
		tags = malloc(a.granules);
		make_random_tags(tags, a.granules);
		write_tags(a.mem, tags, a.granules);
		expect(!count_wrong_tags(a.mem, tags, a.granules), "child with new tags");
		_exit(0);
	}
	wait_for(child);
	write_all_pages(&a);
	area_expect_intact(&a, "parent");
}

/*
 * The memory of a file is copied for a private mapping that has no PROT_MTE at
 * that time
 */
static void test_cow_untagged(const struct test *test)
{
	struct area a, copy;

	need_page_frames();
	area_create(&a, SHARED, PAGES);
	copy = a;
	copy.mem = mmap(NULL, a.size, PLAIN, MAP_PRIVATE, a.fd, 0);
	must(copy.mem != MAP_FAILED, "mmap");
	/* What the data are to be depends on where they are. */
	munmap(a.mem, a.size);
	must(mremap(copy.mem, a.size, a.size, MREMAP_MAYMOVE | MREMAP_FIXED, a.mem) == a.mem,
	     "mremap");
	touch(a.mem);
	expect_own_copy(&a, "private copy");
}

static void test_mprotect(const struct test *test)
{
	static const int prots[] = {
		PLAIN, PROT_READ, TAGGED, PROT_NONE, PROT_READ | PROT_MTE,
		CLOSED,
	};
	size_t pages, from, len, i;
	struct area a;

	area_create(&a, test->backing, 4 * PAGES);
	pages = a.size / page_size();
	/* Parts of all sizes, so that they cut through any larger unit */
	for (i = 0; i < 200; i++) {
		from = rand() % pages;
		len = 1 + rand() % (pages - from);
		if (test->backing >= HUGETLB) {
			from = 0;
			len = pages;
		}
		must(!mprotect(a.mem + from * page_size(), len * page_size(),
			       prots[rand() % ARRAY_SIZE(prots)]), "mprotect");
	}
	area_protect(&a, TAGGED);
	area_expect_intact(&a, "in the end");
}

/* The same on anonymous memory in folios of 16 pages, where the kernel has them */
static void test_mprotect_mthp(const struct test *test)
{
	size_t size = PAGES * page_size(), i, step;
	struct area a;
	char path[128], old[32];

	snprintf(path, sizeof(path), "%s", thp_setting(size, "enabled"));
	snprintf(old, sizeof(old), "%s", read_setting(path));
	if (access(path, F_OK))
		skip("no transparent huge pages of %d pages", PAGES);
	if (access(path, W_OK))
		skip("needs root to have huge pages of %d pages", PAGES);
	area_map(&a, ANON, PAGES, TAGGED);
	a.mem = reserve_aligned(size, TAGGED);
	must(!madvise(a.mem, size, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	must(change(path, "madvise"), "%s", path);
	area_fill_data(&a);
	write_text(path, old);
	area_fill_tags(&a);
	if (!(page_flags(a.mem + page_size()) & KPF_TAIL))
		try_again("no large folio was allocated");
	for (step = page_size(); step < size; step *= 2) {
		for (i = 0; i < size; i += 2 * step)
			must(!mprotect(a.mem + i, step, PLAIN), "mprotect");
		area_protect(&a, TAGGED);
		area_protect(&a, CLOSED);
		area_protect(&a, TAGGED);
	}
	if (!(page_flags(a.mem + page_size()) & KPF_TAIL))
		try_again("evidence void: the folio was split");
	area_expect_intact(&a, "in the end");
}

static void test_migration(const struct test *test)
{
	unsigned long frames[PAGES];
	struct area a;
	size_t i;

	if (geteuid())
		skip("needs root");
	if (!getenv("MTE_TEST_SOFT_OFFLINE"))
		skip("costs memory for good; set MTE_TEST_SOFT_OFFLINE to run it");
	/* An unknown advice is refused before the length is looked at. */
	if (madvise(NULL, 0, MADV_SOFT_OFFLINE))
		skip("kernel without MADV_SOFT_OFFLINE");
	area_create(&a, test->backing, PAGES);
	list_frames(&a, frames);
	for (i = 0; i < a.size; i += page_size()) {
		must(!madvise(a.mem + i, page_size(), MADV_SOFT_OFFLINE),
		     "MADV_SOFT_OFFLINE");
		touch(a.mem + i);
	}
	if (count_unmoved(&a, frames))
		try_again("evidence void: pages were not moved");
	area_expect_intact(&a, "after migration");
}

static void expect_no_stale_tags(const struct area *a)
{
	size_t seen = count_nonzero_tags(a->mem, a->granules);

	expect(!seen, "%zu of %zu tags are stale", seen, a->granules);
	area_must_be_huge(a);
	end_evidence(a->mem, a->size);
}

/* PROT_MTE is there from the start. */
static void test_new_memory(const struct test *test)
{
	struct area a;

	dirty_free_memory(test->backing, STALE_TAG);
	area_map(&a, test->backing, 4 * PAGES, TAGGED);
	begin_evidence(getpid());
	/* Who reads first may get the huge zero page, and small pages for that. */
	a.mem[0] = 1;
	write_all_pages(&a);
	expect_no_stale_tags(&a);
}

/* PROT_MTE comes when the pages have data. */
static void test_late_prot_mte(const struct test *test)
{
	struct area a;

	dirty_free_memory(test->backing, STALE_TAG);
	area_map(&a, test->backing, 4 * PAGES, PLAIN);
	area_fill_data(&a);
	begin_evidence(getpid());
	area_protect(&a, TAGGED);
	expect_no_stale_tags(&a);
}

/* backing: ANON for the zero page, THP for the huge zero page */
static void test_zero_page(const struct test *test)
{
	unsigned long flags;
	size_t i, seen;
	struct area a;

	need_page_flags();
	if (test->backing == THP &&
	    (thp_is_too_large() || read_number(THP_SETTINGS "use_zero_page") < 1))
		skip(thp_size() ? "no huge zero page" : "no transparent huge pages");
	dirty_free_memory(ANON, STALE_TAG);
	area_map(&a, test->backing, PAGES, TAGGED);
	for (i = 0; i < a.size; i += page_size())
		touch(a.mem + i);
	flags = page_flags(a.mem);
	if (!(flags & KPF_ZERO))
		try_again("evidence void: reading mapped another page");
	expect(test->backing == THP || !(flags & KPF_MTE),
	       "the zero page is flagged as having tags");
	seen = count_nonzero_tags(a.mem, a.granules);
	/* A page of one's own, and that by a write of a tag to another one */
	begin_evidence(getpid());
	set_tag(a.mem + page_size(), 1);
	write_all_pages(&a);
	seen += count_nonzero_tags(a.mem, granules_per_page());
	seen += get_tag(a.mem + page_size()) != 1;
	seen += count_nonzero_tags(a.mem + page_size() + GRANULE,
				   a.granules - granules_per_page() - 1);
	expect(!seen, "%zu tags are wrong", seen);
	expect(!(page_flags(a.mem) & KPF_ZERO), "the zero page was written to");
	end_evidence(a.mem, a.size);
}

/*
 * The first half of the huge page has tags, the second has none: anonymous
 * memory because it was never touched, shared memory because it is mapped
 * without PROT_MTE.
 */
static void test_collapse(const struct test *test)
{
	size_t half = thp_size() / 2, lost, seen;
	unsigned char *tags = malloc(half / GRANULE);
	bool shared = test->backing == SHARED;
	char *p, *tagged;
	int fd;

	need_collapse();
	p = reserve_aligned(2 * half, TAGGED);
	tagged = p;
	if (shared) {
		fd = memfd_create("check_page_tag_events", 0);
		must(fd >= 0 && !ftruncate(fd, 2 * half), "memfd");
		must(mmap(p, 2 * half, PLAIN, MAP_SHARED | MAP_FIXED, fd, 0) == p, "mmap");
		tagged = mmap(NULL, half, TAGGED, MAP_SHARED, fd, 0);
		must(tagged != MAP_FAILED, "mmap");
	}
	madvise(p, 2 * half, MADV_NOHUGEPAGE);
	memset(p, 0x5a, shared ? 2 * half : half);
	make_random_tags(tags, half / GRANULE);
	write_tags(tagged, tags, half / GRANULE);
	dirty_free_memory(THP, STALE_TAG);

	begin_evidence(getpid());
	madvise(p, 2 * half, MADV_HUGEPAGE);
	collapse(p, 2 * half);
	must(!mprotect(p, 2 * half, TAGGED), "mprotect");
	lost = count_wrong_tags(p, tags, half / GRANULE);
	seen = count_nonzero_tags(p + half, half / GRANULE);
	expect(!lost && !seen, "%zu tags lost, %zu stale tags seen", lost, seen);
	end_evidence(p, 2 * half);
}

static void set_ksm(const char *path, const char *text)
{
	must(change(path, text), "%s", path);
}

/* Let KSM look at all there is, several times: it wants to see stable data */
static void merge(void)
{
	long scans = read_number(KSM "full_scans");
	int i;

	set_ksm(KSM "pages_to_scan", "10000");
	set_ksm(KSM "sleep_millisecs", "1");
	set_ksm(KSM "run", "1");
	for (i = 0; i < 6000 && read_number(KSM "full_scans") < scans + 6; i++)
		usleep(10000);
	if (i == 6000)
		skip("KSM does not get done");
}

/*
 * Four pages with the same data; the first two have tags, the others have not
 * and must be merged, or KSM did nothing. arg: the data is zero, and KSM is told
 * to use the zero page for it.
 */
static void test_ksm(const struct test *test)
{
	size_t size = page_size(), granules = 2 * granules_per_page(), lost, seen;
	unsigned char tags[granules];
	bool zero = test->arg, merged;
	char *p, *rest;

	if (access(KSM "run", F_OK))
		skip("no KSM");
	if (access(KSM "run", W_OK))
		skip("needs root to switch KSM on");
	need_page_flags();
	if (zero)
		set_ksm(KSM "use_zero_pages", "1");
	p = mmap(NULL, 4 * size, PLAIN, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(p != MAP_FAILED, "mmap");
	rest = p + 2 * size;
	madvise(p, 4 * size, MADV_NOHUGEPAGE);
	/* One of these two is the page that stays, or a copy of it is made later. */
	dirty_free_memory(ANON, STALE_TAG);
	memset(p, zero ? 0 : 0x5a, 4 * size);
	must(!mprotect(p, 2 * size, TAGGED), "mprotect");
	make_random_tags(tags, granules);
	write_tags(p, tags, granules);
	must(!madvise(p, 4 * size, MADV_MERGEABLE), "MADV_MERGEABLE");
	merge();

	if (zero)
		merged = page_flags(rest) & KPF_ZERO;
	else
		merged = page_frame(rest) == page_frame(rest + size);
	if (!merged)
		try_again("evidence void: pages without tags were not merged");
	lost = count_wrong_tags(p, tags, granules);

	/* What was merged gets tags now: zero, and each page its own */
	if (zero)
		dirty_free_memory(ANON, STALE_TAG);
	begin_evidence(getpid());
	must(!mprotect(rest, 2 * size, TAGGED), "mprotect");
	seen = count_nonzero_tags(rest, granules);
	set_tag(rest, 1);
	seen += get_tag(rest) != 1;
	seen += count_nonzero_tags(rest + GRANULE, granules - 1);
	expect(!lost && !seen, "%zu tags lost, %zu stale tags seen", lost, seen);
	end_evidence(rest, 2 * size);
}

/* arg: the request */
static void test_userfaultfd(const struct test *test)
{
	unsigned int request = *(const unsigned int *)test->arg;
	bool move = request == UFFDIO_MOVE;
	struct uffdio_api api = {
		.api = UFFD_API, .features = move ? UFFD_FEATURE_MOVE : 0,
	};
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC);
	struct uffdio_register range = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	struct uffdio_move move_arg;
	struct uffdio_copy copy_arg;
	struct uffdio_zeropage zero_arg = {};
	struct area from, to;
	void *arg = &zero_arg;
	size_t seen;

	if (access("/proc/sys/vm/unprivileged_userfaultfd", F_OK))
		skip("no userfaultfd");
	must(uffd >= 0, "userfaultfd");
	if (ioctl(uffd, UFFDIO_API, &api) && move)
		skip("kernel without UFFDIO_MOVE");
	area_create(&from, ANON, PAGES);
	dirty_free_memory(ANON, STALE_TAG);
	area_map(&to, test->backing, PAGES, TAGGED);
	range.range = (struct uffdio_range){ (unsigned long)to.mem, to.size };
	zero_arg.range = range.range;
	copy_arg = (struct uffdio_copy){
		.dst = range.range.start, .src = (unsigned long)from.mem, .len = to.size,
	};
	move_arg = (struct uffdio_move){
		.dst = range.range.start, .src = (unsigned long)from.mem, .len = to.size,
	};
	if (request == UFFDIO_COPY)
		arg = &copy_arg;
	else if (move)
		arg = &move_arg;
	must(!ioctl(uffd, UFFDIO_REGISTER, &range), "UFFDIO_REGISTER");

	begin_evidence(getpid());
	must(!ioctl(uffd, request, arg), "userfaultfd request");
	if (move) {
		seen = count_wrong_tags(to.mem, from.tags, from.granules);
		expect(!seen, "%zu tags lost", seen);
		return;
	}
	seen = count_nonzero_tags(to.mem, to.granules);
	write_all_pages(&to);
	seen += count_nonzero_tags(to.mem, to.granules);
	expect(!seen, "%zu stale tags seen", seen);
	end_evidence(to.mem, to.size);
}

static const unsigned int request_copy = UFFDIO_COPY;
static const unsigned int request_zeropage = UFFDIO_ZEROPAGE;
static const unsigned int request_move = UFFDIO_MOVE;

/* The same pages of the file, the other way round */
static void test_remap_file_pages(const struct test *test)
{
	size_t size = page_size(), granules = granules_per_page(), i, wrong = 0;
	struct area a;
	char *page;

	if (remap_file_pages(NULL, 0, 0, 0, 0) && errno != EINVAL)
		skip("kernel without remap_file_pages()");
	area_create(&a, SHARED, PAGES);
	for (i = 0; i < PAGES; i++)
		must(!remap_file_pages(a.mem + i * size, size, 0, PAGES - 1 - i, 0),
		     "remap_file_pages");
	for (i = 0; i < PAGES; i++) {
		page = a.mem + i * size;
		expect(*(unsigned long *)page == area_word(&a, (PAGES - 1 - i) * size),
		       "page %zu is another page of the file", i);
		wrong += count_wrong_tags(page, a.tags + (PAGES - 1 - i) * granules,
					  granules);
	}
	expect(!wrong, "%zu of %zu tags cannot be seen", wrong, a.granules);

	area_fill_tags(&a);
	wrong = count_wrong_tags(a.mem, a.tags, a.granules);
	expect(!wrong, "%zu of %zu tags cannot be set", wrong, a.granules);
}

static const struct test tests[] = {
	{ "fork_and_write_keeps_tags", test_cow, ON(ANON) | ON(THP) | ON_HUGETLB },
	{ "write_to_private_file_mapping_keeps_tags", test_cow_untagged },
	{ "mprotect_keeps_tags", test_mprotect, ON_ALL },
	{ "mprotect_keeps_tags_of_large_folio", test_mprotect_mthp },
	{ "migration_keeps_tags", test_migration, ON(ANON) | ON(SHARED) },
	{ "collapse_keeps_tags_and_shows_no_stale_ones", test_collapse,
	  ON(ANON) | ON(SHARED) },
	{ "ksm_keeps_tags_and_shows_no_stale_ones", test_ksm },
	{ "ksm_with_zero_page_keeps_tags_and_shows_no_stale_ones", test_ksm,
	  .arg = "zero" },
	{ "userfaultfd_move_keeps_tags", test_userfaultfd, .arg = &request_move },
	{ "userfaultfd_copy_shows_no_stale_tags", test_userfaultfd,
	  ON(ANON) | ON(SHARED), &request_copy },
	{ "userfaultfd_zeropage_shows_no_stale_tags", test_userfaultfd,
	  .arg = &request_zeropage },
	{ "remap_file_pages_keeps_prot_mte", test_remap_file_pages },
	{ "new_memory_has_no_stale_tags", test_new_memory, ON_ALL },
	{ "late_prot_mte_shows_no_stale_tags", test_late_prot_mte, ON_ALL },
	{ "zero_page_has_no_tags", test_zero_page, ON(ANON) | ON(THP) },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, NULL);
}
