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
 *
 * Without race_window.ko the races run in their natural windows: a loss is a
 * failure, but no loss proves nothing and is a SKIP.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
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

/* Long enough for the ioctl on a busy host, and it ends the hold itself. */
#define HOLD_US		100000
#define WINDOWS		16
#define MAX_RACED_FOR	(128UL << 20)
#define NATURAL_WINDOWS	2000
#define NATURAL_SECONDS	20
#define CHILD_SECONDS	60

static struct mte_vm *create_vm_on_dirty_memory(const struct mte_case *c,
						size_t size)
{
	struct mte_vm *m;

	mte_dirty_free_memory();
	m = mte_vm_create(true);
	mte_vm_add_memory(m, c->backing, size);

	return m;
}

static void load_first(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_on_dirty_memory(c, SIZE);

	mte_tag_program_memory(m);
	mte_begin_counting_stale_pages();
	mte_expect_guest_sees(m, IPA, SIZE, MTE_ALL_ZERO, "first access");
	/* The zero page makes way for memory of its own. */
	mte_guest_store(m, IPA, SIZE);
	mte_end_counting_stale_pages(m);
	mte_expect_guest_sees(m, IPA, SIZE, MTE_ALL_ZERO, "after stores");
}

static void store_first(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_on_dirty_memory(c, SIZE);

	mte_tag_program_memory(m);
	mte_begin_counting_stale_pages();
	mte_guest_store(m, IPA, SIZE);
	mte_end_counting_stale_pages(m);
	mte_need_huge_page(m);
	mte_expect_guest_sees(m, IPA, SIZE, MTE_ALL_ZERO, "after stores");
}

static void seen_by_ioctl(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_on_dirty_memory(c, SIZE);

	mte_expect_ioctl_reads(m, IPA, SIZE, MTE_ALL_ZERO, "before any touch");
	mte_tag_program_memory(m);
	mte_begin_counting_stale_pages();
	mte_guest_store(m, IPA, SIZE);
	mte_end_counting_stale_pages(m);
	mte_expect_ioctl_reads(m, IPA, SIZE, MTE_ALL_ZERO, "after stores");
	mte_expect_guest_sees(m, IPA, SIZE, MTE_ALL_ZERO, "after the ioctl");
}

static void vmm_first(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_on_dirty_memory(c, SIZE);

	mte_vmm_touch(m, SIZE);
	mte_need_huge_page(m);
	mte_tag_program_memory(m);
	mte_begin_counting_stale_pages();
	mte_expect_guest_sees(m, IPA, SIZE, MTE_ALL_ZERO, "after the VMM");
	mte_end_counting_stale_pages(m);
	mte_expect_ioctl_reads(m, IPA, SIZE, MTE_ALL_ZERO, "after the VMM");
}

static void flag_after_tags(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_on_dirty_memory(c, SIZE);
	unsigned long hits, early;

	if (!race_window_loaded())
		mte_skip("race_window.ko is not loaded");
	mte_tag_program_memory(m);
	if (race_window_arm_once("mte_clear_page_tags", mte_thread_id(), 0))
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
	struct mte_vm *m = mte_vm_create(true);

	mte_vm_add_memory(m, c->backing, SIZE);
	mte_guest_load(m, IPA, SIZE);
	if (!mte_is_zero_page(mte_vm_hva(m)))
		mte_run_again("evidence void: the guest has not got the zero page");
	mte_expect(!mte_is_flagged(mte_vm_hva(m)), "the zero page has the flag");

	/* That the flag can be seen if there is one */
	mte_guest_store(m, IPA, SIZE);
	if (!mte_is_flagged(mte_vm_hva(m)))
		mte_run_again("evidence void: memory with tags has no flag");
}

static void touch_in_guest(struct mte_helper *h)
{
	mte_guest_store(h->m, h->ipa, MTE_PAGE);
}

static void write_tags(struct mte_helper *h)
{
	h->ret = mte_write_tags(h->m, h->ipa, h->tags, MTE_PAGE);
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
		if (mte_write_tags(h->m, h->ipa, h->tags, MTE_PAGE) != MTE_PAGE)
			mte_die("COPY_TAGS failed");
		mte_helper_wait(h);
		expect_nothing_lost(h->m, h->ipa, TAGS, &lost);
	}

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
	unsigned int i, tried = 0, hit = 0, lost = 0;
	bool loaded = race_window_loaded();
	u8 tags[MTE_GRANULES_PER_PAGE];
	/* Where a block is mapped, the pages raced for are a block apart. */
	size_t step = mte_unit(c->backing);
	struct mte_helper h = { .work = touch_in_guest, .tags = tags };
	unsigned long windows = WINDOWS;
	long ret;

	if (!loaded) {
		if (step == MTE_BLOCK)
			mte_skip("race_window.ko is not loaded");
		windows = NATURAL_WINDOWS;
	} else if (windows * step > MAX_RACED_FOR) {
		windows = MAX_RACED_FOR / step;
	}

	h.m = create_vm_on_dirty_memory(c, (windows + 1) * step);
	mte_tag_program_memory(h.m);
	mte_guest_store(h.m, IPA, MTE_PAGE);
	mte_need_huge_page(h.m);
	mte_helper_start(&h);

	if (!loaded) {
		natural_windows(&h, step);
		mte_helper_end(&h);
		return;
	}

	for (i = 1; i <= windows; i++, tried++) {
		h.ipa = IPA + i * step;
		fill_tags(tags, h.ipa, TAGS);

		if (race_window_arm_once("mte_clear_page_tags", h.tid, HOLD_US))
			mte_die("cannot probe mte_clear_page_tags()");
		mte_helper_go(&h);
		if (race_window_wait_hit())
			hit++;
		ret = mte_write_tags(h.m, h.ipa, tags, MTE_PAGE);
		race_window_release();
		mte_helper_wait(&h);
		race_window_disarm();

		if (ret != MTE_PAGE)
			mte_die("COPY_TAGS returned %ld", ret);
		expect_nothing_lost(h.m, h.ipa, TAGS, &lost);
	}
	mte_helper_end(&h);

	ksft_print_msg("windows tried %u, hit %u, lost %u\n", tried, hit, lost);
	if (!hit)
		mte_run_again("evidence void: no window was hit");
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

	for (i = 0; i < ARRAY_LEN(writers); i++) {
		if (race_window_arm_once(writers[i], mte_thread_id(), 0))
			continue;
		mte_write_pattern(m, IPA, MTE_PAGE, MTE_ALL_ZERO);
		hits = race_window_hits();
		race_window_disarm();
		if (hits)
			return writers[i];
	}

	mte_skip("no known function of this kernel writes the tags");
}

static void touch_races_write(const struct mte_case *c)
{
	unsigned int i, tried = 0, hit = 0, lost = 0;
	struct mte_helper h = { .work = write_tags };
	u8 tags[MTE_GRANULES_PER_PAGE];
	unsigned long to_see = 0;
	const char *writer;
	u64 stale;

	if (!race_window_loaded())
		mte_skip("race_window.ko is not loaded");

	h.m = create_vm_on_dirty_memory(c, (WINDOWS + 1) * MTE_PAGE);
	h.tags = tags;
	mte_tag_program_memory(h.m);
	mte_vmm_touch(h.m, (WINDOWS + 1) * MTE_PAGE);
	writer = find_tag_writer(h.m);
	mte_helper_start(&h);

	for (i = 1; i <= WINDOWS; i++, tried++) {
		h.ipa = IPA + i * MTE_PAGE;
		fill_tags(tags, h.ipa, OTHER_TAGS);

		if (race_window_arm_once(writer, h.tid, HOLD_US))
			mte_die("cannot probe %s()", writer);
		mte_helper_go(&h);
		if (race_window_wait_hit())
			hit++;
		stale = MTE_GRANULES_PER_PAGE -
			mte_guest_mismatches(h.m, h.ipa, MTE_PAGE, MTE_STALE);
		race_window_release();
		mte_helper_wait(&h);
		to_see += race_window_stale();
		race_window_disarm();

		if (h.ret != MTE_PAGE)
			mte_die("COPY_TAGS returned %ld", h.ret);
		mte_expect(!stale, "the guest saw %lu stale tags",
			   (unsigned long)stale);
		expect_nothing_lost(h.m, h.ipa, OTHER_TAGS, &lost);
	}
	mte_helper_end(&h);

	ksft_print_msg("held in %s(): windows tried %u, hit %u, stale before %lu, lost %u\n",
		       writer, tried, hit, to_see, lost);
	if (!hit)
		mte_run_again("evidence void: no window was hit");
	if (!to_see)
		mte_run_again("evidence void: no page had stale tags");
}

/*
 * The VMM forks, and writes to the page that is about to get its tags: whose
 * page will that be, the guest's or the child's? If the kernel has pinned the
 * page, fork() copies it for the child, and the VMM's write copies nothing.
 */
static void write_races_fork(const struct mte_case *c)
{
	unsigned int i, tried = 0, hit = 0, moved = 0, lost = 0;
	struct mte_helper h = { .work = write_tags };
	u8 tags[MTE_GRANULES_PER_PAGE];
	const char *writer;
	pid_t child;
	char *page;
	u64 pfn;

	if (!race_window_loaded())
		mte_skip("race_window.ko is not loaded");

	h.m = mte_vm_create(true);
	mte_vm_add_memory(h.m, c->backing, SIZE);
	h.tags = tags;
	mte_vmm_touch(h.m, SIZE);
	mte_need_huge_page(h.m);
	writer = find_tag_writer(h.m);
	mte_helper_start(&h);

	for (i = 1; i <= WINDOWS; i++, tried++) {
		h.ipa = IPA + i * MTE_PAGE;
		page = mte_vm_hva(h.m) + i * MTE_PAGE;
		pfn = mte_pfn(page);
		fill_tags(tags, h.ipa, TAGS);

		if (race_window_arm_once(writer, h.tid, HOLD_US))
			mte_die("cannot probe %s()", writer);
		mte_helper_go(&h);
		if (race_window_wait_hit())
			hit++;
		child = fork();
		if (!child) {
			/* It only has to have the page, too. */
			alarm(CHILD_SECONDS);
			pause();
			_exit(0);
		}
		WRITE_ONCE(*page, 1);
		race_window_release();
		mte_helper_wait(&h);
		race_window_disarm();
		moved += mte_pfn(page) != pfn;

		if (child < 0 || h.ret != MTE_PAGE)
			mte_die("fork() returned %d, COPY_TAGS %ld", child, h.ret);
		expect_nothing_lost(h.m, h.ipa, TAGS, &lost);
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	mte_helper_end(&h);

	ksft_print_msg("held in %s(): windows tried %u, hit %u, pages copied %u, lost %u\n",
		       writer, tried, hit, moved, lost);
	if (!hit)
		mte_run_again("evidence void: no window was hit");
}

static const struct mte_case cases[] = {
	{ "guest_load_first_sees_no_stale_tags",
	  load_first, MTE_ON_ALL | MTE_ON_OPTIONAL },
	{ "guest_store_first_sees_no_stale_tags",
	  store_first, MTE_ON_ALL | MTE_ON_OPTIONAL },
	{ "ioctl_sees_no_stale_tags",
	  seen_by_ioctl, MTE_ON_ALL | MTE_ON_OPTIONAL },
	{ "memory_touched_by_vmm_shows_no_stale_tags",
	  vmm_first, MTE_ON_ALL | MTE_ON_OPTIONAL },
	{ "flag_is_set_after_tags_are_cleared", flag_after_tags, MTE_ON_ALL },
	{ "guest_load_does_not_flag_the_zero_page", zero_page_has_no_flag,
	  MTE_ON_ANON },
	{ "copy_tags_racing_first_touch_loses_nothing", write_races_touch,
	  MTE_ON_ALL },
	{ "first_touch_racing_copy_tags_sees_no_stale_tags", touch_races_write,
	  MTE_ON_SMALL },
	{ "copy_tags_racing_fork_reach_the_guest", write_races_fork,
	  BIT(MTE_ANON) | BIT(MTE_THP) },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_LEN(cases));
}
