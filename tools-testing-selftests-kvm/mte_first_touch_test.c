// SPDX-License-Identifier: GPL-2.0
/*
 * mte_first_touch_test - tags of guest memory that is touched for the first time
 *
 * Free memory is made to carry a known, non-zero tag first.
 *
 *  - A guest that loads from its memory before anything else sees tags of zero
 *    only, and still does after it stored data there.
 *  - So does a guest that stores first.
 *  - So does KVM_ARM_MTE_COPY_TAGS, before and after the guest's touch.
 *  - Memory that the VMM touched, without tags, is no different.
 *  - PG_mte_tagged is set after the tags were cleared, not before.
 *  - Nor is it set for the zero page, which a guest gets that only loads: no
 *    page would be taken to be the same as the zero page any more, by anyone.
 *  - Two initialisers, a vCPU that touches a page for the first time and a
 *    VMM that writes the page's tags with KVM_ARM_MTE_COPY_TAGS: the tags
 *    written are never lost. The vCPU is held as it is about to clear the tags
 *    (race_window.ko), and the tags are written meanwhile.
 *  - A VMM that forks and writes to the page meanwhile: the guest has the tags,
 *    not the child.
 *  - The other way round: a vCPU that touches a page while the VMM's write is
 *    held before the page's first tag sees zeros or tags of the write, nothing
 *    stale, and all of the write once it is done.
 *  - A VMM that touches the page in a second mapping of the memfd, with PROT_MTE.
 *    It is held as it is about to clear the tags, or the vCPU is; the other one sets
 *    tags as soon as it is let to. They are not lost.
 *
 * Without race_window.ko the races run in their natural windows: a loss is a
 * failure, but no loss proves nothing and is a SKIP.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/wait.h>

#include "kselftest.h"
#include "mte.h"

#define IPA		MTE_REGION_IPA
#define SIZE		(2 * MTE_BLOCK)

#define TAGS		0x51ce7a65ULL
/* For where stale tags are counted: the same everywhere, and not stale */
#define OTHER_TAGS	0x5ULL

#define WINDOWS		16
#define MAX_RACED_FOR	(128UL << 20)
#define NATURAL_WINDOWS	2000
#define NATURAL_SECONDS	20
#define CHILD_SECONDS	60

/* What touches the memory, in turn, beside the direct looks at its tags */
enum step { END, VMM_TOUCHES, GUEST_STORES, GUEST_SEES, IOCTL_READS };

enum { LOAD_FIRST, STORE_FIRST, IOCTL_FIRST, VMM_FIRST, VMM_THEN_IOCTL };

static const enum step orders[][5] = {
	[LOAD_FIRST] = { GUEST_SEES, GUEST_STORES, GUEST_SEES },
	[STORE_FIRST] = { GUEST_STORES, GUEST_SEES },
	[IOCTL_FIRST] = { IOCTL_READS, GUEST_STORES, IOCTL_READS, GUEST_SEES },
	[VMM_FIRST] = { VMM_TOUCHES, GUEST_SEES, IOCTL_READS },
	[VMM_THEN_IOCTL] = { VMM_TOUCHES, IOCTL_READS, GUEST_STORES, IOCTL_READS },
};

/* Zeros are all that is there to see, at any time. arg: the order of the steps */
static void first_touch(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create_on(c->backing, SIZE, MTE_DIRTY);
	const enum step *step;
	char when[32];

	mte_begin_counting_stale_pages();
	for (step = orders[c->arg]; *step; step++) {
		snprintf(when, sizeof(when), "step %td", step - orders[c->arg] + 1);
		if (*step == VMM_TOUCHES)
			mte_vmm_touch(m, SIZE);
		else if (*step == GUEST_STORES)
			mte_guest_store(m, IPA, SIZE);
		else if (*step == GUEST_SEES)
			mte_expect_guest_sees(m, IPA, SIZE, MTE_ALL_ZERO, when);
		else
			mte_expect_ioctl_reads(m, IPA, SIZE, MTE_ALL_ZERO, when);
		/* What was read from first need not become a huge page. */
		if (step == orders[c->arg] && *step <= GUEST_STORES)
			mte_need_huge_page(m);
	}
	mte_end_counting_stale_pages(m);
}

static void flag_after_tags(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create_on(c->backing, SIZE, MTE_DIRTY);
	unsigned long hits, early;

	if (!race_window_loaded())
		mte_skip("race_window.ko is not loaded");
	if (race_window_arm_once("mte_clear_page_tags", kvm_gettid(), 0))
		mte_die("cannot probe mte_clear_page_tags()");
	mte_guest_store(m, IPA, SIZE);
	hits = race_window_hits();
	early = race_window_early();
	race_window_disarm();

	ksft_print_msg("windows tried %lu, hit %lu\n", SIZE / MTE_PAGE, hits);
	mte_expect(!early, "%lu pages had the flag before their tags", early);
	if (hits < SIZE / MTE_PAGE)
		mte_run_again("evidence void: %lu of %lu pages seen", hits,
			      SIZE / MTE_PAGE);
}

static void zero_page_has_no_flag(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create_on(c->backing, SIZE, 0);

	mte_guest_load(m, IPA, SIZE);
	if (!mte_is_zero_page(m->hva))
		mte_run_again("evidence void: the guest has not got the zero page");
	mte_expect(!mte_is_flagged(m->hva), "the zero page has the flag");

	/* That the flag can be seen if there is one */
	mte_guest_store(m, IPA, SIZE);
	if (!mte_is_flagged(m->hva))
		mte_run_again("evidence void: memory with tags has no flag");
}

static void touch_in_guest(struct mte_helper *h)
{
	mte_guest_store(h->m, h->ipa, MTE_PAGE);
}

static void touch_alias(struct mte_helper *h)
{
	WRITE_ONCE(*h->addr, 1);
}

static void write_tags(struct mte_helper *h)
{
	h->ret = mte_write_tags(h->m, h->ipa, h->tags, MTE_PAGE);
}

static void set_tags_in_guest(struct mte_helper *h)
{
	mte_guest_set_pattern(h->m, h->ipa, MTE_PAGE, TAGS);
}

static void set_tags_in_alias(struct mte_helper *h)
{
	mte_vmm_set_pattern(h->addr, h->ipa, MTE_PAGE, TAGS);
}

static void fill_tags(u8 *tags, u64 ipa, u64 pattern)
{
	u64 i, first = (ipa - IPA) / MTE_GRANULE;

	for (i = 0; i < MTE_GRANULES_PER_PAGE; i++)
		tags[i] = mte_pattern_tag(pattern, first + i);
}

/* Count a page whose tags were lost; the first one is told in full. */
static void expect_nothing_lost(struct mte_vm *m, u64 ipa,
				u64 pattern, unsigned int *lost)
{
	bool ok;

	if (*lost) {
		*lost += !!mte_guest_mismatches(m, ipa, MTE_PAGE, pattern);
		return;
	}

	ok = mte_expect_guest_sees(m, ipa, MTE_PAGE, pattern, "tags written");
	ok &= mte_expect_ioctl_reads(m, ipa, MTE_PAGE, pattern, "tags written");
	*lost += !ok;
}

/*
 * Race for one page after the other, @step bytes apart. @mem: what the helper's
 * address is in. Afterwards each page has @pattern.
 */
static void race(struct mte_helper *h, const char *function, unsigned long windows,
		 size_t step, char *mem, u64 pattern,
		 void (*meanwhile)(struct mte_helper *h))
{
	unsigned int i, hit = 0, lost = 0;

	for (i = 1; i <= windows; i++) {
		h->ipa = IPA + i * step;
		h->addr = mem + i * step;
		h->ret = MTE_PAGE;
		fill_tags(h->tags, h->ipa, pattern);
		hit += mte_race(h, function, meanwhile);
		if (h->ret != MTE_PAGE)
			mte_die("COPY_TAGS returned %ld", h->ret);
		expect_nothing_lost(h->m, h->ipa, pattern, &lost);
	}
	mte_helper_end(h);

	ksft_print_msg("held in %s(): windows tried %lu, hit %u, stale before %lu, lost %u\n",
		       function, windows, hit, h->stale, lost);
	if (!hit)
		mte_run_again("evidence void: no window was hit");
}

static void natural_windows(struct mte_helper *h, size_t step)
{
	time_t end = time(NULL) + NATURAL_SECONDS;
	unsigned int i, spin, lost = 0;

	for (i = 1; i <= NATURAL_WINDOWS && !lost && time(NULL) < end; i++) {
		h->ipa = IPA + i * step;
		fill_tags(h->tags, h->ipa, TAGS);
		mte_helper_go(h);
		/* Sweep the ioctl's start over the vCPU's fault. */
		for (spin = 0; spin < (i % 200) * 50; spin++)
			barrier();
		write_tags(h);
		mte_expect_return(h->ret, MTE_PAGE, "COPY_TAGS");
		mte_helper_wait(h);
		expect_nothing_lost(h->m, h->ipa, TAGS, &lost);
	}
	mte_helper_end(h);

	ksft_print_msg("windows tried %u, hit unknown (natural windows), lost %u\n",
		       i - 1, lost);
	if (!lost)
		mte_skip("race_window.ko is not loaded and no natural window lost tags");
}

/*
 * The vCPU has found the page without tags and is about to clear them when the
 * VMM writes them.
 */
static void write_races_touch(const struct mte_case *c)
{
	/* Where a block is mapped, the pages raced for are a block apart. */
	size_t step = mte_unit(c->backing);
	struct mte_helper h = { .work = touch_in_guest };
	unsigned long windows = WINDOWS;

	if (!race_window_loaded()) {
		if (step == MTE_BLOCK)
			mte_skip("race_window.ko is not loaded");
		windows = NATURAL_WINDOWS;
	} else if (windows * step > MAX_RACED_FOR) {
		windows = MAX_RACED_FOR / step;
	}

	h.m = mte_vm_create_on(c->backing, (windows + 1) * step, MTE_DIRTY);
	mte_guest_store(h.m, IPA, MTE_PAGE);
	mte_need_huge_page(h.m);
	mte_helper_start(&h);

	if (race_window_loaded())
		race(&h, "mte_clear_page_tags", windows, step, h.m->hva, TAGS, write_tags);
	else
		natural_windows(&h, step);
}

/* The helper is held before it clears tags; @c->arg: it is the vCPU. */
static void alias_races_guest(const struct mte_case *c)
{
	struct mte_helper h = { .work = c->arg ? touch_in_guest : touch_alias };
	size_t size = (WINDOWS + 1) * MTE_PAGE;
	char *alias;

	if (!race_window_loaded())
		mte_skip("race_window.ko is not loaded");
	h.m = mte_vm_create_on(c->backing, size, MTE_DIRTY | MTE_TOUCHED);
	/* A second mapping of all of the memfd's memory, with PROT_MTE */
	alias = mremap(h.m->hva, 0, size, MREMAP_MAYMOVE);
	if (alias == MAP_FAILED || mprotect(alias, size, PROT_READ | PROT_WRITE | PROT_MTE))
		mte_die("no second mapping: %s", strerror(errno));
	mte_guest_store(h.m, IPA, MTE_PAGE);
	mte_helper_start(&h);
	race(&h, "mte_clear_page_tags", WINDOWS, MTE_PAGE, alias, TAGS,
	     c->arg ? set_tags_in_alias : set_tags_in_guest);
}

/*
 * A function in which the task that runs COPY_TAGS stands before the first tag
 * of the page: not the same one in all kernels.
 */
static const char *find_tag_writer(struct mte_vm *m)
{
	static const char * const writers[] = {
		"mte_copy_tags_from_user",
		/* Where the tags are copied from user space beforehand */
		"mte_set_page_tags",
		"mte_restore_page_tags",
		"mte_write_page_tags",
	};
	unsigned long hits;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(writers); i++) {
		if (race_window_arm_once(writers[i], kvm_gettid(), 0))
			continue;
		mte_write_pattern(m, IPA, MTE_PAGE, MTE_ALL_ZERO);
		hits = race_window_hits();
		race_window_disarm();
		if (hits)
			return writers[i];
	}

	mte_skip("no known function of this kernel writes the tags");
}

static void expect_nothing_stale_in_guest(struct mte_helper *h)
{
	u64 stale = MTE_GRANULES_PER_PAGE -
		    mte_guest_mismatches(h->m, h->ipa, MTE_PAGE, MTE_STALE);

	mte_expect(!stale, "the guest saw %lu stale tags", (unsigned long)stale);
}

static void touch_races_write(const struct mte_case *c)
{
	struct mte_helper h = { .work = write_tags };
	const char *writer;

	if (!race_window_loaded())
		mte_skip("race_window.ko is not loaded");

	h.m = mte_vm_create_on(c->backing, (WINDOWS + 1) * MTE_PAGE,
			       MTE_DIRTY | MTE_TOUCHED);
	writer = find_tag_writer(h.m);
	mte_helper_start(&h);
	race(&h, writer, WINDOWS, MTE_PAGE, h.m->hva, OTHER_TAGS,
	     expect_nothing_stale_in_guest);
	if (!h.stale)
		mte_run_again("evidence void: no page had stale tags");
}

static pid_t child;
static unsigned int moved;

static void fork_and_write(struct mte_helper *h)
{
	u64 pfn = mte_pfn(h->addr);

	if (child)
		kill(child, SIGKILL);
	child = fork();
	if (!child) {
		/* It only has to have the page, too. */
		alarm(CHILD_SECONDS);
		pause();
		_exit(0);
	}
	if (child < 0)
		mte_die("no process: %s", strerror(errno));
	WRITE_ONCE(*h->addr, 1);
	moved += mte_pfn(h->addr) != pfn;
}

/*
 * The VMM forks, and writes to the page that is about to get its tags: whose
 * page will that be, the guest's or the child's? If the kernel has pinned the
 * page, fork() copies it for the child, and the VMM's write copies nothing.
 */
static void write_races_fork(const struct mte_case *c)
{
	struct mte_helper h = { .work = write_tags };
	const char *writer;

	if (!race_window_loaded())
		mte_skip("race_window.ko is not loaded");

	h.m = mte_vm_create_on(c->backing, SIZE, MTE_TOUCHED);
	writer = find_tag_writer(h.m);
	mte_helper_start(&h);
	race(&h, writer, WINDOWS, MTE_PAGE, h.m->hva, TAGS, fork_and_write);
	ksft_print_msg("%u pages were copied for the VMM\n", moved);
}

static const struct mte_case cases[] = {
	{ "guest_load_first_sees_no_stale_tags",
	  first_touch, MTE_ON_ALL | MTE_ON_OPTIONAL, LOAD_FIRST },
	{ "guest_store_first_sees_no_stale_tags",
	  first_touch, MTE_ON_ALL | MTE_ON_OPTIONAL, STORE_FIRST },
	{ "ioctl_sees_no_stale_tags", first_touch, MTE_ON_ALL | MTE_ON_OPTIONAL, IOCTL_FIRST },
	{ "memory_touched_by_vmm_shows_no_stale_tags",
	  first_touch, MTE_ON_ALL | MTE_ON_OPTIONAL, VMM_FIRST },
	{ "ioctl_sees_no_stale_tags_of_memory_touched_by_vmm",
	  first_touch, MTE_ON_ALL | MTE_ON_OPTIONAL, VMM_THEN_IOCTL },
	{ "flag_is_set_after_tags_are_cleared", flag_after_tags, MTE_ON_ALL },
	{ "guest_load_does_not_flag_the_zero_page", zero_page_has_no_flag, MTE_ON_ANON },
	{ "copy_tags_racing_first_touch_loses_nothing", write_races_touch, MTE_ON_ALL },
	{ "first_touch_racing_copy_tags_sees_no_stale_tags", touch_races_write, MTE_ON_SMALL },
	{ "copy_tags_racing_fork_reach_the_guest", write_races_fork, BIT(MTE_ANON) | BIT(MTE_THP) },
	{ "guest_beside_first_touch_of_tagged_alias_loses_no_tags",
	  alias_races_guest, BIT(MTE_MEMFD), false },
	{ "tagged_alias_beside_first_touch_of_guest_loses_no_tags",
	  alias_races_guest, BIT(MTE_MEMFD), true },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_SIZE(cases));
}
