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
 * and the tags of memory that nobody has set must be zero, whatever the page
 * frame was used for before:
 *
 * - PROT_MTE memory that is new
 * - memory that was used without PROT_MTE and gets it by mprotect()
 * - the zero page, the huge zero page, and their copies
 * - pages that were merged while they had no tags
 * - the untagged pages of a collapsed huge page
 * - memory filled by UFFDIO_COPY and UFFDIO_ZEROPAGE
 *
 * A test for stale tags leaves tags behind in free memory first. Where the
 * race_window module can tell (it looks at pages whose tags are about to be
 * cleared), it must have seen such a page.
 */
#define _GNU_SOURCE

#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "mte_page_tags.h"
#include "mte_race_window.h"

#define PAGES		16
#define STALE_TAG	0xd
#define HUGETLB_PAGES	6
#define KSM		"/sys/kernel/mm/ksm/"
#define MTHP_PAGES	16
#define MTHP		thp_setting(MTHP_PAGES * page_size(), "enabled")

static const char *set_up(void)
{
	grow_hugetlb_pool(HUGETLB_PAGES);
	return NULL;
}

static const char *no_backing(const struct test *test)
{
	return backing_missing(test->backing);
}

static const char *no_frames(const struct test *test)
{
	return geteuid() ? "needs root to see page frames" : no_backing(test);
}

static void note_frames(const struct area *a, unsigned long *frames)
{
	size_t i;

	for (i = 0; i < a->size / page_size(); i++)
		frames[i] = page_frame(a->mem + i * page_size());
}

/* Write to all pages without changing anything */
static void write_all_pages(const struct area *a)
{
	size_t i;

	for (i = 0; i < a->size; i += page_size())
		touch_for_write(a->mem + i);
}

/* Write to every page of a copy, so that it becomes one's own; look at it */
static bool own_copy_intact(const struct area *a, const char *who)
{
	size_t pages = a->size / page_size(), same;
	unsigned long frames[pages];

	note_frames(a, frames);
	write_all_pages(a);
	same = area_unmoved_pages(a, frames);
	if (same)
		ksft_print_msg("%s: %zu of %zu pages were not copied\n", who,
			       same, pages);
	return !same && area_protect(a, TAGGED) && area_intact(a, who);
}

static bool test_cow(const struct test *test)
{
	struct area a;
	pid_t child;
	bool ok;

	if (!area_create(&a, test->backing, PAGES))
		return false;
	child = fork();
	if (!child) {
		if (!own_copy_intact(&a, "child"))
			_exit(1);
		/* None of these may show up in the parent's memory. */
		area_fill_tags(&a);
		_exit(!area_intact(&a, "child with new tags"));
	}
	ok = child_succeeded(child);
	write_all_pages(&a);
	return area_intact(&a, "parent") && ok;
}

/*
 * The memory of a file is copied for a private mapping that has no PROT_MTE at
 * that time
 */
static bool test_cow_untagged(const struct test *test)
{
	struct area a, copy;

	if (!area_create(&a, SHARED, PAGES))
		return false;
	copy = a;
	copy.mem = mmap(NULL, a.size, PLAIN, MAP_PRIVATE, a.fd, 0);
	if (copy.mem == MAP_FAILED)
		return false;
	/* What the data are to be depends on where they are. */
	munmap(a.mem, a.size);
	if (mremap(copy.mem, a.size, a.size, MREMAP_MAYMOVE | MREMAP_FIXED,
		   a.mem) != a.mem)
		return false;
	touch(a.mem);
	return own_copy_intact(&a, "private copy");
}

static bool test_mprotect(const struct test *test)
{
	static const int prots[] = {
		PLAIN, PROT_READ, TAGGED, PROT_NONE, PROT_READ | PROT_MTE,
		CLOSED,
	};
	size_t pages, from, len, i;
	struct area a;

	if (!area_create(&a, test->backing, 4 * PAGES))
		return false;
	pages = a.size / page_size();
	/* Parts of all sizes, so that they cut through any larger unit */
	for (i = 0; i < 200; i++) {
		from = rand() % pages;
		len = 1 + rand() % (pages - from);
		if (test->backing == HUGETLB) {
			from = 0;
			len = pages;
		}
		if (mprotect(a.mem + from * page_size(), len * page_size(),
			     prots[rand() % ARRAY_SIZE(prots)])) {
			ksft_print_msg("mprotect: %s\n", strerror(errno));
			return false;
		}
	}
	return area_protect(&a, TAGGED) && area_intact(&a, "in the end");
}

/* The same on anonymous memory in folios of 16 pages, where the kernel has them */
static const char *no_mthp(const struct test *test)
{
	if (access(MTHP, F_OK))
		return "no transparent huge pages of 16 pages";
	return access(MTHP, W_OK) ? "needs root to have huge pages of 16 pages" : NULL;
}

static bool test_mprotect_mthp(const struct test *test)
{
	size_t size = MTHP_PAGES * page_size(), i, step;
	struct area a = { .backing = ANON, .fd = -1 };
	char old[32];

	a.mem = reserve_aligned(size, TAGGED);
	a.size = size;
	a.granules = size / GRANULE;
	a.tags = malloc(a.granules);
	snprintf(old, sizeof(old), "%s", read_setting(MTHP));
	if (!a.mem || !change_setting(MTHP, "always"))
		return false;
	area_fill_data(&a);
	write_text(MTHP, old);
	area_fill_tags(&a);
	if (!(page_flags(a.mem + page_size()) & KPAGEFLAGS_TAIL)) {
		proves_nothing("no large folio was allocated");
		return false;
	}
	for (step = page_size(); step < size; step *= 2) {
		for (i = 0; i < size; i += 2 * step)
			if (mprotect(a.mem + i, step, PLAIN))
				return false;
		if (!area_protect(&a, TAGGED) || !area_protect(&a, CLOSED) ||
		    !area_protect(&a, TAGGED))
			return false;
	}
	if (!(page_flags(a.mem + page_size()) & KPAGEFLAGS_TAIL))
		proves_nothing("evidence void: the folio was split");
	return area_intact(&a, "in the end");
}

static bool test_migration(const struct test *test)
{
	unsigned long frames[PAGES];
	struct area a;
	size_t i;

	if (!area_create(&a, test->backing, PAGES))
		return false;
	note_frames(&a, frames);
	for (i = 0; i < a.size; i += page_size()) {
		if (madvise(a.mem + i, page_size(), MADV_SOFT_OFFLINE)) {
			ksft_print_msg("MADV_SOFT_OFFLINE: %s\n",
				       strerror(errno));
			return false;
		}
		touch(a.mem + i);
	}
	if (area_unmoved_pages(&a, frames))
		proves_nothing("evidence void: pages were not moved");
	return area_intact(&a, "after migration");
}

static const char *no_soft_offline(const struct test *test)
{
	if (geteuid())
		return "needs root";
	if (!getenv("MTE_TEST_SOFT_OFFLINE"))
		return "costs memory for good; set MTE_TEST_SOFT_OFFLINE to run it";
	/* An unknown advice is refused before the length is looked at. */
	if (madvise(NULL, 0, MADV_SOFT_OFFLINE))
		return "kernel without MADV_SOFT_OFFLINE";
	return NULL;
}

static bool no_stale_tags(const struct area *a)
{
	size_t seen = count_nonzero_tags(a->mem, a->granules);
	long stale = race_window_watched();

	ksft_print_msg("%zu of %zu tags are stale\n", seen, a->granules);
	return !seen && area_is_huge(a) && had_stale_tags(stale, a->mem, a->size);
}

/* PROT_MTE is there from the start. */
static bool test_new_memory(const struct test *test)
{
	struct area a;

	if (!dirty_free_memory(test->backing, STALE_TAG) ||
	    !area_map(&a, test->backing, 4 * PAGES, TAGGED))
		return false;
	/*
	 * They are cleared when the page is mapped or, not by every kernel,
	 * when it is allocated.
	 */
	if (!race_window_watch(test_attempt % 2 ? "mte_zero_clear_page_tags" :
			       "mte_clear_page_tags", getpid()) &&
	    test_attempt % 2 == 0)
		return false;
	write_all_pages(&a);
	return no_stale_tags(&a);
}

/* PROT_MTE comes when the pages have data. */
static bool test_late_prot_mte(const struct test *test)
{
	struct area a;

	if (!dirty_free_memory(test->backing, STALE_TAG) ||
	    !area_map(&a, test->backing, 4 * PAGES, PLAIN))
		return false;
	area_fill_data(&a);
	return race_window_watch("mte_clear_page_tags", getpid()) &&
	       area_protect(&a, TAGGED) && no_stale_tags(&a);
}

/* backing: ANON for the zero page, THP for the huge zero page */
static bool test_zero_page(const struct test *test)
{
	const char *property = test->backing == ANON ? "the zero page" :
						       "the huge zero page";
	unsigned long flags;
	size_t i, seen;
	struct area a;

	if (!dirty_free_memory(ANON, STALE_TAG) ||
	    !area_map(&a, test->backing, PAGES, TAGGED))
		return false;
	for (i = 0; i < a.size; i += page_size())
		touch(a.mem + i);
	flags = page_flags(a.mem);
	if (!(flags & KPAGEFLAGS_ZERO))
		proves_nothing("evidence void: reading mapped another page");
	if (test->backing == ANON && (flags & KPAGEFLAGS_MTE)) {
		ksft_print_msg("%s is flagged as having tags\n", property);
		return false;
	}
	seen = count_nonzero_tags(a.mem, a.granules);
	/* A page of one's own, and that by a write of a tag to another one */
	set_tag(a.mem + page_size(), 1);
	write_all_pages(&a);
	seen += count_nonzero_tags(a.mem, granules_per_page());
	seen += get_tag(a.mem + page_size()) != 1;
	seen += count_nonzero_tags(a.mem + page_size() + GRANULE,
				   a.granules - granules_per_page() - 1);
	ksft_print_msg("%zu tags are wrong\n", seen);
	return !seen && !(page_flags(a.mem) & KPAGEFLAGS_ZERO);
}

static const char *no_kpageflags(const struct test *test)
{
	if (geteuid() || access(KPAGEFLAGS, R_OK))
		return "cannot read " KPAGEFLAGS;
	if (test->backing == THP &&
	    (thp_is_too_large() || read_number(THP_SETTINGS "use_zero_page") < 1))
		return "no huge zero page";
	return no_backing(test);
}

/*
 * The first half of the huge page has tags, the second has none: anonymous
 * memory because nobody has touched it, shared memory because it is mapped
 * without PROT_MTE.
 */
static bool test_collapse(const struct test *test)
{
	size_t half = thp_size() / 2, i, seen, lost;
	unsigned char *tags = malloc(half / GRANULE);
	bool shared = test->backing == SHARED;
	int fd, ret = -1;
	char *p, *tagged;
	long stale;

	p = reserve_aligned(2 * half, TAGGED);
	tagged = p;
	if (!p)
		return false;
	if (shared) {
		fd = memfd_create("check_page_tag_events", 0);
		if (fd < 0 || ftruncate(fd, 2 * half) ||
		    mmap(p, 2 * half, PLAIN, MAP_SHARED | MAP_FIXED, fd, 0) != p)
			return false;
		tagged = mmap(NULL, half, TAGGED, MAP_SHARED, fd, 0);
	}
	madvise(p, 2 * half, MADV_NOHUGEPAGE);
	memset(p, 0x5a, shared ? 2 * half : half);
	make_random_tags(tags, half / GRANULE);
	write_tags(tagged, tags, half / GRANULE);
	if (!dirty_free_memory(THP, STALE_TAG))
		return false;

	if (!race_window_watch("mte_clear_page_tags", getpid()))
		return false;
	madvise(p, 2 * half, MADV_HUGEPAGE);
	for (i = 0; i < 50 && ret; i++) {
		ret = madvise(p, 2 * half, MADV_COLLAPSE);
		if (ret)
			usleep(10000);
	}
	touch(p + half);
	if (ret || !is_thp_tail(p + half))
		proves_nothing("evidence void: no huge page by MADV_COLLAPSE");
	if (mprotect(p, 2 * half, TAGGED))
		return false;
	lost = count_wrong_tags(p, tags, half / GRANULE);
	seen = count_nonzero_tags(p + half, half / GRANULE);
	stale = race_window_watched();
	ksft_print_msg("%zu tags lost, %zu stale tags seen\n", lost, seen);
	return !lost && !seen && had_stale_tags(stale, p, 2 * half);
}

static const char *no_collapse(const struct test *test)
{
	if (collapse_missing())
		return collapse_missing();
	if (geteuid() || access(KPAGEFLAGS, R_OK))
		return "cannot read " KPAGEFLAGS;
	return backing_missing(THP);
}

/* Let KSM look at all there is, several times: it wants to see stable data */
static bool merge(void)
{
	long scans = read_number(KSM "full_scans");
	int i;

	change_number(KSM "pages_to_scan", 10000);
	change_number(KSM "sleep_millisecs", 1);
	if (!change_number(KSM "run", 1))
		return false;
	for (i = 0; i < 6000; i++) {
		if (read_number(KSM "full_scans") >= scans + 6)
			return true;
		usleep(10000);
	}
	ksft_print_msg("KSM does not get done\n");
	return false;
}

/*
 * Four pages with the same data; the first two have tags, the others have not
 * and must be merged, or KSM did nothing. arg: the data is zero, and KSM is told
 * to use the zero page for it.
 */
static bool test_ksm(const struct test *test)
{
	size_t size = page_size(), granules = 2 * granules_per_page(), lost;
	unsigned char tags[granules];
	bool zero = test->arg, merged;
	size_t seen;
	char *p;

	if (zero && !change_number(KSM "use_zero_pages", 1))
		return false;
	if (!dirty_free_memory(ANON, STALE_TAG))
		return false;
	p = mmap(NULL, 4 * size, PLAIN, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return false;
	madvise(p, 4 * size, MADV_NOHUGEPAGE);
	memset(p, zero ? 0 : 0x5a, 4 * size);
	if (mprotect(p, 2 * size, TAGGED))
		return false;
	make_random_tags(tags, granules);
	write_tags(p, tags, granules);
	if (madvise(p, 4 * size, MADV_MERGEABLE) || !merge())
		return false;

	if (zero)
		merged = page_flags(p + 2 * size) & KPAGEFLAGS_ZERO;
	else
		merged = page_frame(p + 2 * size) == page_frame(p + 3 * size);
	if (!merged)
		proves_nothing("evidence void: pages without tags were not merged");
	lost = count_wrong_tags(p, tags, granules);

	/* What was merged gets tags now: zero, and each page its own */
	if (mprotect(p + 2 * size, 2 * size, TAGGED))
		return false;
	seen = count_nonzero_tags(p + 2 * size, granules);
	set_tag(p + 2 * size, 1);
	seen += get_tag(p + 2 * size) != 1;
	seen += count_nonzero_tags(p + 2 * size + GRANULE, granules - 1);
	ksft_print_msg("%zu tags lost, %zu stale tags seen\n", lost, seen);
	return !lost && !seen;
}

static const char *no_ksm(const struct test *test)
{
	if (access(KSM "run", F_OK))
		return "no KSM";
	if (access(KSM "run", W_OK))
		return "needs root to switch KSM on";
	return no_kpageflags(test);
}

/* Returns the file descriptor of a userfaultfd with @features or -1 */
static int open_userfaultfd(unsigned long features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static bool watch_missing(int uffd, const struct area *a)
{
	struct uffdio_register range = {
		.range = { (unsigned long)a->mem, a->size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	return !ioctl(uffd, UFFDIO_REGISTER, &range);
}

/* arg: the request */
static bool test_userfaultfd(const struct test *test)
{
	unsigned int request = *(const unsigned int *)test->arg;
	bool move = request == UFFDIO_MOVE;
	int ret, uffd = open_userfaultfd(move ? UFFD_FEATURE_MOVE : 0);
	struct area from, to;
	size_t seen;
	long stale;

	if (uffd < 0 || !area_create(&from, ANON, PAGES) ||
	    !dirty_free_memory(ANON, STALE_TAG) ||
	    !area_map(&to, test->backing, PAGES, TAGGED) ||
	    !watch_missing(uffd, &to))
		return false;
	if (request == UFFDIO_COPY &&
	    !race_window_watch("mte_clear_page_tags", getpid()))
		return false;
	if (move) {
		struct uffdio_move arg = {
			.dst = (unsigned long)to.mem,
			.src = (unsigned long)from.mem,
			.len = from.size,
		};

		ret = ioctl(uffd, request, &arg);
	} else if (request == UFFDIO_COPY) {
		struct uffdio_copy arg = {
			.dst = (unsigned long)to.mem,
			.src = (unsigned long)from.mem,
			.len = from.size,
		};

		ret = ioctl(uffd, request, &arg);
	} else {
		struct uffdio_zeropage arg = {
			.range = { (unsigned long)to.mem, to.size },
		};

		ret = ioctl(uffd, request, &arg);
	}
	if (ret) {
		ksft_print_msg("userfaultfd request: %s\n", strerror(errno));
		return false;
	}
	if (move) {
		seen = count_wrong_tags(to.mem, from.tags, from.granules);
		ksft_print_msg("%zu tags lost\n", seen);
		return !seen;
	}
	seen = count_nonzero_tags(to.mem, to.granules);
	write_all_pages(&to);
	seen += count_nonzero_tags(to.mem, to.granules);
	ksft_print_msg("%zu stale tags seen\n", seen);
	stale = race_window_watched();
	return !seen && (request != UFFDIO_COPY ||
			 had_stale_tags(stale, to.mem, to.size));
}

static const unsigned int request_copy = UFFDIO_COPY;
static const unsigned int request_zeropage = UFFDIO_ZEROPAGE;
static const unsigned int request_move = UFFDIO_MOVE;

static const char *no_userfaultfd(const struct test *test)
{
	int fd = open_userfaultfd(0);

	if (fd < 0)
		return errno == EPERM ? "userfaultfd is not allowed" : "no userfaultfd";
	close(fd);
	if (test->arg != &request_move)
		return NULL;
	fd = open_userfaultfd(UFFD_FEATURE_MOVE);
	if (fd < 0)
		return "kernel without UFFDIO_MOVE";
	close(fd);
	return NULL;
}

/* The same pages of the file, the other way round */
static bool test_remap_file_pages(const struct test *test)
{
	size_t size = page_size(), granules = granules_per_page(), i, wrong = 0;
	unsigned long word;
	struct area a;
	char *page;

	if (!area_create(&a, SHARED, PAGES))
		return false;
	for (i = 0; i < PAGES; i++) {
		if (remap_file_pages(a.mem + i * size, size, 0, PAGES - 1 - i, 0)) {
			ksft_print_msg("remap_file_pages: %s\n", strerror(errno));
			return false;
		}
	}
	for (i = 0; i < PAGES; i++) {
		page = a.mem + i * size;
		word = area_word(&a, (PAGES - 1 - i) * size);
		if (*(unsigned long *)page != word) {
			ksft_print_msg("page %zu is another page of the file\n", i);
			return false;
		}
		wrong += count_wrong_tags(page, a.tags + (PAGES - 1 - i) * granules,
					  granules);
	}
	ksft_print_msg("%zu of %zu tags are not to be seen\n", wrong, a.granules);

	area_fill_tags(&a);
	i = count_wrong_tags(a.mem, a.tags, a.granules);
	ksft_print_msg("%zu of %zu tags cannot be set\n", i, a.granules);
	return !wrong && !i;
}

static const char *no_remap_file_pages(const struct test *test)
{
	if (remap_file_pages(NULL, 0, 0, 0, 0) && errno != EINVAL)
		return "kernel without remap_file_pages()";
	return NULL;
}

static const struct test tests[] = {
	{ "fork_and_write_keeps_tags", test_cow, no_frames, ANON },
	{ "fork_and_write_keeps_tags_of_huge_page", test_cow, no_frames, THP },
	{ "fork_and_write_keeps_tags_of_hugetlb_page", test_cow, no_frames,
	  HUGETLB },
	{ "write_to_private_file_mapping_keeps_tags", test_cow_untagged,
	  no_frames },
	{ "mprotect_keeps_tags", test_mprotect, no_backing, ANON },
	{ "mprotect_keeps_tags_of_huge_page", test_mprotect, no_backing, THP },
	{ "mprotect_keeps_tags_of_shared_memory", test_mprotect, no_backing,
	  SHARED },
	{ "mprotect_keeps_tags_of_hugetlb_page", test_mprotect, no_backing,
	  HUGETLB },
	{ "mprotect_keeps_tags_of_large_folio", test_mprotect_mthp, no_mthp },
	{ "migration_keeps_tags", test_migration, no_soft_offline, ANON },
	{ "migration_keeps_tags_of_shared_memory", test_migration,
	  no_soft_offline, SHARED },
	{ "collapse_keeps_tags_and_shows_no_stale_ones", test_collapse,
	  no_collapse, ANON },
	{ "collapse_of_shared_memory_keeps_tags_and_shows_no_stale_ones",
	  test_collapse, no_collapse, SHARED },
	{ "ksm_keeps_tags_and_shows_no_stale_ones", test_ksm, no_ksm },
	{ "ksm_with_zero_page_keeps_tags_and_shows_no_stale_ones", test_ksm,
	  no_ksm, .arg = "zero" },
	{ "userfaultfd_move_keeps_tags", test_userfaultfd, no_userfaultfd,
	  ANON, &request_move },
	{ "userfaultfd_copy_shows_no_stale_tags", test_userfaultfd,
	  no_userfaultfd, ANON, &request_copy },
	{ "userfaultfd_copy_to_shared_memory_shows_no_stale_tags",
	  test_userfaultfd, no_userfaultfd, SHARED, &request_copy },
	{ "userfaultfd_zeropage_shows_no_stale_tags", test_userfaultfd,
	  no_userfaultfd, ANON, &request_zeropage },
	{ "remap_file_pages_keeps_prot_mte", test_remap_file_pages,
	  no_remap_file_pages },
	{ "new_memory_has_no_stale_tags", test_new_memory, no_backing, ANON },
	{ "new_huge_page_has_no_stale_tags", test_new_memory, no_backing, THP },
	{ "new_shared_memory_has_no_stale_tags", test_new_memory, no_backing,
	  SHARED },
	{ "new_hugetlb_page_has_no_stale_tags", test_new_memory, no_backing,
	  HUGETLB },
	{ "late_prot_mte_shows_no_stale_tags", test_late_prot_mte, no_backing,
	  ANON },
	{ "late_prot_mte_on_huge_page_shows_no_stale_tags", test_late_prot_mte,
	  no_backing, THP },
	{ "late_prot_mte_on_shared_memory_shows_no_stale_tags",
	  test_late_prot_mte, no_backing, SHARED },
	{ "late_prot_mte_on_hugetlb_page_shows_no_stale_tags",
	  test_late_prot_mte, no_backing, HUGETLB },
	{ "zero_page_has_no_flag_and_no_tags", test_zero_page, no_kpageflags,
	  ANON },
	{ "huge_zero_page_has_no_tags", test_zero_page, no_kpageflags, THP },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, NULL);
}
