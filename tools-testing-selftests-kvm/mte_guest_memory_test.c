// SPDX-License-Identifier: GPL-2.0
/*
 * mte_guest_memory_test - tags of guest memory that the host's memory
 * management, or the VMM, moves about under the guest
 *
 * Two properties for each thing that can happen to it:
 *
 *  - keeps_tags: tags that the guest set in all of its memory are the same
 *    afterwards, for the guest and for KVM_ARM_MTE_COPY_TAGS, and so is the data.
 *  - shows_no_stale_tags: a part of the memory has tags, the rest has data only
 *    and lies in pages with stale tags. Afterwards the rest reads as zeros, and
 *    the guest can have tags there like everywhere. The free pages that copies
 *    go to have stale tags, too.
 *
 * What happens, each time with proof that it did:
 *
 *  - swapped out, and in again by the guest's access, by the VMM's through a
 *    mapping without PROT_MTE, or by swapoff
 *  - migrated: page by page (MADV_SOFT_OFFLINE), and by compaction
 *  - looked at by KSM: pages with tags stay apart, those without may be merged
 *    until the guest writes to them
 *  - fork of the VMM: the guest's next write is to a copy
 *  - transparent huge pages split, and pages collapsed into huge ones
 *  - PROT_MTE on the VMM's own mapping, before and while the guest sets its tags
 *
 * Of a private mapping of a file it happens to the guest's copies of its pages.
 *
 * When a huge page is split, the first page, the head, matters: its state must
 * not become that of the others. With tags in the first page the others are in
 * danger to show stale tags, without they are in danger to lose theirs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest.h"
#include "mte.h"

#define IPA		MTE_REGION_IPA
#define SMALL_SIZE	(64 * MTE_PAGE)
/* More than the allocator's lists for each CPU hold, of large pages, too */
#define FILLER_SIZE	(MTE_PAGE < 65536 ? 64UL << 20 : 128UL << 20)

#define TAGS		0x7a3e9d1UL
#define LATER_TAGS	0x1a7e3d5UL
#define SAME_DATA	0x5a5a5a5a5a5a5a5aUL

#define KSM			"/sys/kernel/mm/ksm/"
#define SPLIT_HUGE_PAGES	"/sys/kernel/debug/split_huge_pages"
#define COMPACT_MEMORY		"/proc/sys/vm/compact_memory"
#define PMD_SIZE		"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"

/* Beside an event in a case's arg: the tags are in the second, fourth... page */
#define FROM_SECOND	0x100

enum {
	SWAP_IN_BY_GUEST,
	SWAP_IN_BY_VMM,
	SWAPOFF,
	SOFT_OFFLINE,
	COMPACTION,
	MERGE,
	FORK,
	SPLIT_BY_COLD,
	SPLIT_BY_PAGEOUT,
	SPLIT_BY_UNMAP,
	COLLAPSE,
	MPROTECT,
};

/* Some pages, or two huge ones */
static size_t size_of(const struct mte_case *c)
{
	size_t two = 2 * mte_unit(c->backing);

	if (c->arg == COLLAPSE)
		return MTE_BLOCK;

	return two > SMALL_SIZE ? two : SMALL_SIZE;
}

static void *page_at(struct mte_vm *m, size_t i)
{
	return m->hva + i * MTE_PAGE;
}

/*
 * What the first word of each page holds; the rest of it is zeros. For KSM
 * there are two kinds of pages: one that has tags and is never the same as any
 * other must not get in the way of those that have none. Swap has a short cut
 * for pages with zeros only.
 */
static u64 data_of(const struct mte_case *c, size_t page)
{
	if (c->arg == MERGE)
		return SAME_DATA + page % 2;
	if (c->arg <= SWAPOFF && page % 8 < 2)
		return 0;

	return IPA + page * MTE_PAGE;
}

static void fill_data(const struct mte_case *c, struct mte_vm *m)
{
	size_t i;

	for (i = 0; i < size_of(c) / MTE_PAGE; i++)
		WRITE_ONCE(*(u64 *)page_at(m, i), data_of(c, i));
}

/*
 * What can happen
 */

static void swap_out(struct mte_vm *m, size_t size)
{
	mte_need_swap();
	mte_page_out(m->hva, size);
	/* The pages for what comes back have seen other tags, which count. */
	mte_dirty_free_memory();
	mte_begin_counting_stale_pages();
}

static void swap_in_by_guest(const struct mte_case *c, struct mte_vm *m)
{
	swap_out(m, size_of(c));
	mte_guest_load(m, IPA, size_of(c));
}

static void swap_in_by_vmm(const struct mte_case *c, struct mte_vm *m)
{
	size_t i;

	swap_out(m, size_of(c));
	for (i = 0; i < size_of(c) / MTE_PAGE; i++)
		READ_ONCE(*(u64 *)page_at(m, i));
}

static void swap_off(const struct mte_case *c, struct mte_vm *m)
{
	swap_out(m, size_of(c));
	mte_swap_off();
}

static void migrate_by_soft_offline(const struct mte_case *c, struct mte_vm *m)
{
	/* Each migration costs a page for good. */
	size_t i, step = size_of(c) / MTE_PAGE / 4 + 1;

	mte_vm_spare_huge_pages(m);
	for (i = 0; i < size_of(c) / MTE_PAGE; i += step)
		mte_migrate_page(page_at(m, i));
}

static void compact(const struct mte_case *c, struct mte_vm *m)
{
	size_t i, pages = size_of(c) / MTE_PAGE, moved = 0, tries;
	u64 *pfns = calloc(pages, sizeof(*pfns));
	int fd = open(COMPACT_MEMORY, O_WRONLY);

	if (fd < 0)
		mte_skip("no compact_memory: %s", strerror(errno));
	for (i = 0; i < pages; i++)
		pfns[i] = mte_pfn(page_at(m, i));
	for (tries = 0; tries < 3 && !moved; tries++) {
		if (pwrite(fd, "1", 1, 0) != 1)
			mte_die("compact_memory: %s", strerror(errno));
		for (i = 0; i < pages; i++)
			moved += pfns[i] != mte_pfn(page_at(m, i));
	}
	close(fd);
	free(pfns);
	ksft_print_msg("%zu of %zu pages were migrated\n", moved, pages);
	if (!moved)
		mte_run_again("evidence void: compaction left all in place");
}

static void wait_for_ksm(void)
{
	unsigned long end = mte_tunable(KSM "full_scans") + 3;

	while (mte_tunable(KSM "full_scans") < end)
		usleep(1000);
}

static void part_has_tags(const struct mte_case *c);

static void merge_same_pages(const struct mte_case *c, struct mte_vm *m)
{
	size_t i, merged = 0;
	char *control = kvm_mmap(2 * MTE_PAGE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1);

	memset(control, 0xc3, 2 * MTE_PAGE);
	if (madvise(control, 2 * MTE_PAGE, MADV_MERGEABLE) ||
	    madvise(m->hva, size_of(c), MADV_MERGEABLE))
		mte_die("no KSM: %s", strerror(errno));

	mte_set_tunable(KSM "sleep_millisecs", 0);
	mte_set_tunable(KSM "pages_to_scan", 10000);
	mte_set_tunable(KSM "run", 1);
	wait_for_ksm();
	if (mte_pfn(control) != mte_pfn(control + MTE_PAGE))
		mte_run_again("evidence void: KSM merges no pages without tags either");

	/* The pages with even numbers have tags, if not all have. */
	for (i = 3; i < size_of(c) / MTE_PAGE; i += 2)
		merged += mte_pfn(page_at(m, i)) == mte_pfn(page_at(m, 1));
	ksft_print_msg("%zu of %zu pages merged\n", merged, i / 2);
	/*
	 * Pages without tags need not be merged: when KSM write-protects one,
	 * KVM may map it at once, and so give it tags.
	 */
	mte_expect(!merged || c->run == part_has_tags,
		   "pages that have tags were merged");
}

static void fork_and_write(const struct mte_case *c, struct mte_vm *m)
{
	size_t i, pages = size_of(c) / MTE_PAGE, copied = 0;
	u64 *pfns = calloc(pages, sizeof(*pfns));
	pid_t pid, parent = getpid();

	mte_vm_spare_huge_pages(m);
	for (i = 0; i < pages; i++)
		pfns[i] = mte_pfn(page_at(m, i));
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (getppid() == parent)
			pause();
		_exit(0);
	}
	if (pid < 0)
		mte_die("fork: %s", strerror(errno));

	mte_guest_load(m, IPA, size_of(c));
	mte_guest_store(m, IPA, size_of(c));
	for (i = 0; i < pages; i++)
		copied += pfns[i] != mte_pfn(page_at(m, i));
	free(pfns);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	if (copied != pages)
		mte_run_again("evidence void: %zu of %zu pages were copied", copied,
			      pages);
}

/* A page without tags in the middle of the first huge page */
static void *split_at(const struct mte_case *c, struct mte_vm *m)
{
	return page_at(m, MTE_BLOCK / MTE_PAGE / 2 + !(c->arg & FROM_SECOND));
}

static void expect_split(struct mte_vm *m, bool split)
{
	if (mte_in_huge_page(page_at(m, 1)) == split)
		mte_run_again("evidence void: the huge page was %s",
			      split ? "not split" : "split too early");
}

static void split_by_cold(const struct mte_case *c, struct mte_vm *m)
{
	expect_split(m, false);
	if (madvise(split_at(c, m), MTE_PAGE, MADV_COLD))
		mte_die("MADV_COLD: %s", strerror(errno));
	expect_split(m, true);
}

static void split_by_pageout(const struct mte_case *c, struct mte_vm *m)
{
	mte_need_swap();
	expect_split(m, false);
	if (madvise(split_at(c, m), MTE_PAGE, MADV_PAGEOUT))
		mte_die("MADV_PAGEOUT: %s", strerror(errno));
	expect_split(m, true);
}

/* What is mapped in part only is split when reclaim gets there, or on demand. */
static void split_by_unmap(const struct mte_case *c, struct mte_vm *m)
{
	int fd = open(SPLIT_HUGE_PAGES, O_WRONLY), tries;
	char range[80];

	if (fd < 0)
		mte_skip("no split_huge_pages in debugfs");
	expect_split(m, false);
	if (madvise(split_at(c, m), MTE_PAGE, MADV_DONTNEED))
		mte_die("MADV_DONTNEED: %s", strerror(errno));
	snprintf(range, sizeof(range), "%d,%p,%p", getpid(), m->hva,
		 m->hva + MTE_BLOCK);
	/* A page may be in use for a moment. */
	for (tries = 0; tries < 100; tries++) {
		/* Kernels without ranges split all huge pages of the machine. */
		if (write(fd, range, strlen(range)) < 0 &&
		    (errno != EINVAL || write(fd, "1", 1) != 1))
			mte_die("cannot split huge pages: %s", strerror(errno));
		if (!mte_in_huge_page(page_at(m, 1)))
			break;
		usleep(10000);
	}
	close(fd);
	expect_split(m, true);
	fill_data(c, m);
}

static void collapse(const struct mte_case *c, struct mte_vm *m)
{
	int tries, err = EAGAIN;

	if (mte_tunable(PMD_SIZE) > MTE_BLOCK)
		mte_skip("MADV_COLLAPSE makes huge pages of %lu MiB only",
			 mte_tunable(PMD_SIZE) >> 20);
	if (madvise(m->hva, MTE_BLOCK, MADV_HUGEPAGE))
		mte_die("MADV_HUGEPAGE: %s", strerror(errno));
	expect_split(m, true);
	/* A page may be in use for a moment. */
	for (tries = 0; tries < 100 && err; tries++) {
		err = madvise(m->hva, MTE_BLOCK, MADV_COLLAPSE) ?
		      errno : 0;
		if (err == EINVAL && !tries)
			mte_skip("kernel without MADV_COLLAPSE");
		if (err)
			usleep(10000);
	}
	if (err)
		mte_run_again("MADV_COLLAPSE: %s", strerror(err));
	/* Shared memory is not mapped again before it is needed. */
	READ_ONCE(*(u64 *)page_at(m, 1));
	expect_split(m, false);
}

/* There is no way back: mprotect() without PROT_MTE leaves it on. */
static void mprotect_mte(const struct mte_case *c, struct mte_vm *m)
{
	size_t i;

	if (mprotect(m->hva, size_of(c), PROT_READ | PROT_WRITE | PROT_MTE))
		mte_die("no PROT_MTE for this memory: %s", strerror(errno));
	for (i = 0; i < size_of(c) / MTE_PAGE; i++)
		READ_ONCE(*(u64 *)page_at(m, i));
}

static void (* const events[])(const struct mte_case *c, struct mte_vm *m) = {
	[SWAP_IN_BY_GUEST] = swap_in_by_guest,
	[SWAP_IN_BY_VMM] = swap_in_by_vmm,
	[SWAPOFF] = swap_off,
	[SOFT_OFFLINE] = migrate_by_soft_offline,
	[COMPACTION] = compact,
	[MERGE] = merge_same_pages,
	[FORK] = fork_and_write,
	[SPLIT_BY_COLD] = split_by_cold,
	[SPLIT_BY_PAGEOUT] = split_by_pageout,
	[SPLIT_BY_UNMAP] = split_by_unmap,
	[COLLAPSE] = collapse,
	[MPROTECT] = mprotect_mte,
};

static void happen(const struct mte_case *c, struct mte_vm *m)
{
	events[c->arg & ~FROM_SECOND](c, m);
}

/*
 * What must hold before and afterwards
 */

static char *map_filler(void)
{
	return kvm_mmap(FILLER_SIZE, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1);
}

/*
 * Compaction moves pages to free ones above them. What is allocated before, or
 * else what is allocated afterwards, lies above.
 */
static void fill_data_below_free_memory(const struct mte_case *c,
					struct mte_vm *m)
{
	char *before, *after;

	mte_need_memory(2 * FILLER_SIZE);
	before = map_filler();
	fill_data(c, m);
	after = map_filler();
	munmap(before, FILLER_SIZE);
	munmap(after, FILLER_SIZE);
}

static struct mte_vm *create_vm(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create_on(c->backing, size_of(c), MTE_DIRTY);

	if (c->arg == COMPACTION)
		fill_data_below_free_memory(c, m);
	else
		fill_data(c, m);
	mte_need_huge_page(m);

	return m;
}

static void expect_tags_and_data(const struct mte_case *c, struct mte_vm *m,
				 u64 pattern)
{
	size_t i, bad = 0;

	mte_expect_tags(m, IPA, size_of(c), pattern, "afterwards");
	for (i = 0; i < size_of(c) / MTE_PAGE; i++)
		bad += READ_ONCE(*(u64 *)page_at(m, i)) != data_of(c, i);
	mte_expect(!bad, "%zu pages have wrong data", bad);
}

static void keeps_tags(const struct mte_case *c)
{
	struct mte_vm *m = create_vm(c);

	mte_guest_set_pattern(m, IPA, size_of(c), TAGS);
	happen(c, m);
	expect_tags_and_data(c, m, TAGS);
}

/*
 * Every other page has tags, or every other huge page if that is what tags are
 * kept for. With transparent huge pages the guest has them in pages.
 */
static void part_has_tags(const struct mte_case *c)
{
	size_t run = c->backing == MTE_THP ? MTE_PAGE : mte_unit(c->backing);
	u64 pattern = TAGS | MTE_STRIPES(__builtin_ctzl(run / MTE_GRANULE),
					 c->arg & FROM_SECOND);
	u64 ipa = c->arg & FROM_SECOND ? IPA + run : IPA;
	struct mte_vm *m = create_vm(c);

	mte_begin_counting_stale_pages();
	if (c->backing == MTE_THP)
		mte_vm_log_dirty_pages(m, true);
	for (; ipa < IPA + size_of(c); ipa += 2 * run) {
		if (c->backing == MTE_THP)
			mte_guest_set_pattern(m, ipa, run, pattern);
		else
			mte_write_pattern(m, ipa, run, pattern);
	}
	happen(c, m);
	expect_tags_and_data(c, m, pattern);
	mte_end_counting_stale_pages(m);

	mte_guest_set_pattern(m, IPA, size_of(c), LATER_TAGS);
	expect_tags_and_data(c, m, LATER_TAGS);
}

/*
 * Races
 */

static u64 now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);

	return now.tv_sec * 1000000000UL + now.tv_nsec;
}

static u64 mprotect_begin, mprotect_end;

static void mprotect_page(struct mte_helper *h)
{
	unsigned int spin;

	/* Sweep its start over what the guest does. */
	for (spin = 0; spin < h->arg * 500; spin++)
		barrier();
	mprotect_begin = now_ns();
	h->ret = mprotect(h->addr, h->size, PROT_READ | PROT_WRITE | PROT_MTE) ?
		 errno : 0;
	mprotect_end = now_ns();
}

/*
 * While the VMM sets PROT_MTE on one page after the other, the guest sets and
 * reads its tags there, for the first time, and in the page before.
 */
static void mprotect_beside_guest(const struct mte_case *c)
{
	struct mte_vm *m = create_vm(c);
	struct mte_helper h = {
		.work = mprotect_page,
		.size = c->backing == MTE_THP ? MTE_PAGE : mte_unit(c->backing),
	};
	size_t range = c->backing == MTE_THP ? SMALL_SIZE : size_of(c);
	u64 ipa, begin, end, pattern = TAGS;
	unsigned int met = 0, pages = 0;
	size_t done, length;
	bool ok = true;

	mte_helper_start(&h);
	for (done = h.size; done <= range && ok; done += h.size, pattern++) {
		length = done > h.size ? 2 * h.size : h.size;
		ipa = IPA + done - length;
		h.addr = m->hva + done - h.size;
		h.arg = pages % 16;

		begin = now_ns();
		mte_helper_go(&h);
		mte_guest_set_pattern(m, ipa, length, pattern);
		ok = mte_expect_guest_sees(m, ipa, length, pattern,
					   "beside mprotect");
		end = now_ns();
		mte_helper_wait(&h);
		if (h.ret)
			mte_die("mprotect: %s", strerror(h.ret));
		ok &= mte_expect_guest_sees(m, ipa, length, pattern,
					    "after mprotect");
		met += mprotect_begin < end && begin < mprotect_end;
		pages++;
	}
	mte_helper_end(&h);

	mte_guest_set_pattern(m, IPA, range, TAGS);
	mte_expect_ioctl_reads(m, IPA, range, TAGS, "at the end");
	ksft_print_msg("%u of %u times mprotect() and the guest ran at the same time\n",
		       met, pages);
	if (!met)
		mte_run_again("evidence void: mprotect() and the guest never met");
}

#define ON_FILE		MTE_IF(MTE_ABI_PRIVATE_FILE, BIT(MTE_PRIVATE_FILE))
#define ON_SWAP		(MTE_ON_SMALL | BIT(MTE_THP) | ON_FILE)
#define ON_MOVE		(MTE_ON_ALL_SIZES | MTE_ON_OPTIONAL)
#define ON_PRIVATE	((MTE_ON_ALL_SIZES | ON_FILE) & ~BIT(MTE_MEMFD))
#define ON_THP		BIT(MTE_THP)
#define ON_MPROTECT	(MTE_ON_SMALL | BIT(MTE_THP) | \
			 MTE_IF(MTE_ABI_HUGETLB_PROT_MTE, MTE_ON_ALL_SIZES))

static const struct mte_case cases[] = {
	{ "swap_in_by_guest_keeps_tags", keeps_tags, ON_SWAP, SWAP_IN_BY_GUEST },
	{ "swap_in_by_guest_shows_no_stale_tags", part_has_tags, ON_SWAP, SWAP_IN_BY_GUEST },
	{ "swap_in_by_vmm_keeps_tags", keeps_tags, ON_SWAP, SWAP_IN_BY_VMM },
	{ "swap_in_by_vmm_shows_no_stale_tags", part_has_tags, ON_SWAP, SWAP_IN_BY_VMM },
	{ "swapoff_keeps_tags", keeps_tags, ON_SWAP, SWAPOFF },
	{ "swapoff_shows_no_stale_tags", part_has_tags, ON_SWAP, SWAPOFF },

	{ "soft_offline_keeps_tags", keeps_tags, ON_MOVE, SOFT_OFFLINE },
	{ "soft_offline_shows_no_stale_tags", part_has_tags, ON_MOVE, SOFT_OFFLINE },
	{ "compaction_keeps_tags", keeps_tags, MTE_ON_SMALL, COMPACTION },
	{ "compaction_shows_no_stale_tags", part_has_tags, MTE_ON_SMALL, COMPACTION },
	{ "ksm_keeps_tags", keeps_tags, MTE_ON_ANON, MERGE },
	{ "ksm_shows_no_stale_tags", part_has_tags, MTE_ON_ANON, MERGE },
	{ "fork_keeps_tags", keeps_tags, ON_PRIVATE, FORK },
	{ "fork_shows_no_stale_tags", part_has_tags, ON_PRIVATE, FORK },

	{ "split_by_madv_cold_keeps_tags", part_has_tags, ON_THP, SPLIT_BY_COLD | FROM_SECOND },
	{ "split_by_madv_cold_shows_no_stale_tags", part_has_tags, ON_THP, SPLIT_BY_COLD },
	{ "split_by_madv_pageout_keeps_tags",
	  part_has_tags, ON_THP, SPLIT_BY_PAGEOUT | FROM_SECOND },
	{ "split_by_madv_pageout_shows_no_stale_tags", part_has_tags, ON_THP, SPLIT_BY_PAGEOUT },
	{ "split_of_partly_mapped_page_keeps_tags",
	  part_has_tags, ON_THP, SPLIT_BY_UNMAP | FROM_SECOND },
	{ "split_of_partly_mapped_page_shows_no_stale_tags",
	  part_has_tags, ON_THP, SPLIT_BY_UNMAP },
	{ "collapse_keeps_tags", keeps_tags, MTE_ON_SMALL, COLLAPSE },
	{ "collapse_shows_no_stale_tags", part_has_tags, MTE_ON_SMALL, COLLAPSE },

	{ "mprotect_mte_keeps_tags", keeps_tags, ON_MPROTECT, MPROTECT },
	{ "mprotect_mte_shows_no_stale_tags", part_has_tags, ON_MPROTECT, MPROTECT },
	{ "mprotect_mte_beside_running_vcpu_loses_no_tags", mprotect_beside_guest, ON_MPROTECT },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_SIZE(cases));
}
