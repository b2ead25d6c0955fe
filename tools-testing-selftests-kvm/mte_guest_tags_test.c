// SPDX-License-Identifier: GPL-2.0
/*
 * mte_guest_tags_test - tags of guest memory when what is mapped changes
 *
 * Free memory is made to carry a known, non-zero tag first. Whatever KVM then
 * does to give the guest its memory, in pages or in blocks, the guest and
 * KVM_ARM_MTE_COPY_TAGS see all tags that were set for this guest, and no others:
 *
 *  - Dirty logging has KVM map single pages. When it is switched off, the next
 *    write is a permission fault that puts a block in their place. The other
 *    pages of that block are new to the guest.
 *  - Tags that the guest sets in such a block are there for the ioctl, too, and
 *    move with the page when it is migrated.
 *  - A huge page of which the guest gets single pages, for the sake of dirty
 *    logging or because IPA and memory are aligned differently.
 *  - A huge page of which the VMM wrote the tags of one page.
 *  - Reading tags that are not there is nothing that the kernel warns of.
 *  - Dirty logging switched on and off again, a slot deleted and made again.
 *  - New memory behind a slot, after the old one was given back.
 *  - The next VM that gets the same pages.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "kselftest.h"
#include "mte.h"

#define IPA		MTE_REGION_IPA
#define SIZE		(2 * MTE_BLOCK)

#define TAGS		0x6e57a65UL
/* The previous owner's; nothing like it can come from anywhere else. */
#define OLD_TAGS	0x9ULL

/* How many VMs may come and stay before one gets memory of the first one */
#define MAX_NEXT_VMS	48

/* Memory with data in it, but no tags other than stale ones */
static struct mte_vm *create_vm_on_dirty_memory(const struct mte_case *c)
{
	return mte_vm_create_on(c->backing, SIZE, MTE_DIRTY | MTE_TOUCHED);
}

static struct mte_vm *create_vm_with_tags(const struct mte_case *c, u64 tags)
{
	struct mte_vm *m = mte_vm_create_on(c->backing, SIZE, 0);

	mte_guest_store(m, IPA, SIZE);
	mte_need_huge_page(m);
	mte_guest_set_pattern(m, IPA, SIZE, tags);

	return m;
}

static void expect_tags(struct mte_vm *m, u64 pattern, const char *when)
{
	mte_expect_tags(m, IPA, SIZE, pattern, when);
}

/* The guest has the first page of each block; a block takes its place. */
static void make_blocks_by_permission_fault(struct mte_vm *m)
{
	u64 ipa;

	mte_vm_log_dirty_pages(m, true);
	for (ipa = IPA; ipa < IPA + SIZE; ipa += MTE_BLOCK)
		mte_guest_load(m, ipa, MTE_PAGE);
	mte_vm_log_dirty_pages(m, false);
	for (ipa = IPA; ipa < IPA + SIZE; ipa += MTE_BLOCK)
		mte_guest_store(m, ipa, MTE_PAGE);
	mte_need_blocks(m, true);
}

static void permission_fault(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_on_dirty_memory(c);

	mte_begin_counting_stale_pages();
	make_blocks_by_permission_fault(m);
	mte_expect_guest_sees(m, IPA, SIZE, MTE_ALL_ZERO,
			      "blocks in the place of pages");
	mte_end_counting_stale_pages(m);
	mte_expect_ioctl_reads(m, IPA, SIZE, MTE_ALL_ZERO,
			       "blocks in the place of pages");
}

static void permission_fault_then_tags(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_on_dirty_memory(c);
	char *page = m->hva + MTE_BLOCK - MTE_PAGE;

	make_blocks_by_permission_fault(m);
	mte_guest_set_pattern(m, IPA, SIZE, TAGS);
	mte_expect_ioctl_reads(m, IPA, SIZE, TAGS, "tags set in a new block");

	mte_vm_spare_huge_pages(m);
	mte_migrate_page(page);
	expect_tags(m, TAGS, "after migration of the block's last page");
}

/* arg: the memory is misaligned, or else pages are logged */
static void single_pages(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create_on(c->backing, SIZE, MTE_DIRTY | MTE_TOUCHED | c->arg);

	mte_begin_counting_stale_pages();
	if (!c->arg)
		mte_vm_log_dirty_pages(m, true);
	mte_need_blocks(m, false);
	expect_tags(m, MTE_ALL_ZERO, "single pages, loads");
	mte_guest_store(m, IPA, SIZE);
	mte_end_counting_stale_pages(m);
	expect_tags(m, MTE_ALL_ZERO, "single pages, stores");
}

static void write_one_page(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_on_dirty_memory(c);
	u64 page = IPA + 7 * MTE_PAGE;

	mte_begin_counting_stale_pages();
	mte_write_pattern(m, page, MTE_PAGE, TAGS);
	mte_expect_tags(m, IPA, page - IPA, MTE_ALL_ZERO, "before the page written");
	mte_expect_guest_sees(m, page, MTE_PAGE, TAGS, "page written");
	page += MTE_PAGE;
	mte_expect_tags(m, page, IPA + SIZE - page, MTE_ALL_ZERO,
			"behind the page written");
	mte_end_counting_stale_pages(m);
}

static void read_without_tags(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_on_dirty_memory(c);

	mte_begin_watching_log(true);
	mte_expect_ioctl_reads(m, IPA, SIZE, MTE_ALL_ZERO, "no tags yet");
	mte_write_pattern(m, IPA, MTE_PAGE, TAGS);
	mte_expect_ioctl_reads(m, IPA, MTE_PAGE, TAGS, "one page written");
	mte_end_watching_log("WARNING: ", "mte");
	/* It has the warnings that would tell. */
	if (!mte_kernel_has("dump_vma"))
		mte_skip("kernel without CONFIG_DEBUG_VM");
}

static void logging_on_and_off(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_with_tags(c, TAGS);

	mte_vm_log_dirty_pages(m, true);
	mte_guest_store(m, IPA, SIZE / 2);
	expect_tags(m, TAGS, "logging");
	mte_vm_log_dirty_pages(m, false);
	mte_guest_store(m, IPA, SIZE);
	expect_tags(m, TAGS, "not logging any more");
}

static void slot_made_again(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_with_tags(c, TAGS);

	mte_vm_set_slot(m, 0, 0);
	mte_vm_set_slot(m, 0, SIZE);
	expect_tags(m, TAGS, "slot made again");
	mte_vm_set_slot(m, 0, 0);
	mte_vm_set_slot(m, 0, SIZE);
	mte_guest_store(m, IPA, SIZE);
	expect_tags(m, TAGS, "slot made again, stores");
}

static bool some_pages_again(struct mte_vm *m)
{
	size_t again = mte_remembered_frames(m->hva, SIZE);

	ksft_print_msg("%zu of %zu pages are some of the old ones\n", again,
		       SIZE / MTE_PAGE);

	return again;
}

static struct mte_vm *create_vm_with_old_tags(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_with_tags(c, OLD_TAGS);

	mte_remember_frames(m->hva, SIZE);

	return m;
}

static void new_memory_behind_slot(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_with_old_tags(c);

	if (madvise(m->hva, SIZE,
		    c->backing == MTE_MEMFD || c->backing == MTE_SHARED_HUGETLB ?
		    MADV_REMOVE : MADV_DONTNEED))
		mte_skip("memory cannot be given back: %s", strerror(errno));
	mte_guest_store(m, IPA, SIZE);
	expect_tags(m, MTE_ALL_ZERO, "new memory");
	if (!some_pages_again(m))
		mte_run_again("evidence void: all pages are others");
}

static void next_vm(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_with_old_tags(c);
	unsigned int vms;

	mte_vm_destroy(m);
	/* A VM that gets other pages keeps them, until the old ones' turn comes. */
	for (vms = 0; vms < MAX_NEXT_VMS && mte_may_have(2 * SIZE); vms++) {
		m = mte_vm_create_on(c->backing, SIZE, 0);
		mte_expect_ioctl_reads(m, IPA, SIZE, MTE_ALL_ZERO,
				       "next VM, ioctl first");
		mte_vmm_touch(m, SIZE);
		expect_tags(m, MTE_ALL_ZERO, "next VM");
		if (some_pages_again(m))
			return;
	}
	mte_run_again("evidence void: all pages are others");
}

static const struct mte_case cases[] = {
	{ "block_made_by_permission_fault_shows_no_stale_tags",
	  permission_fault, MTE_ON_ALL_SIZES },
	{ "block_made_by_permission_fault_keeps_tags",
	  permission_fault_then_tags, MTE_ON_ALL_SIZES },
	{ "touch_while_logging_shows_no_stale_tags", single_pages, MTE_ON_ALL_SIZES },
	{ "misaligned_slot_shows_no_stale_tags", single_pages, MTE_ON_ALL_SIZES, MTE_MISALIGNED },
	{ "write_of_one_page_shows_no_stale_tags_beside_it", write_one_page, MTE_ON_ALL_SIZES },
	{ "ioctl_reads_untagged_memory_without_a_warning", read_without_tags, MTE_ON_ALL_SIZES },
	{ "dirty_logging_on_and_off_keeps_tags", logging_on_and_off, MTE_ON_ALL_SIZES },
	{ "slot_made_again_keeps_tags", slot_made_again, MTE_ON_ALL_SIZES },
	{ "new_memory_behind_slot_shows_no_stale_tags",
	  new_memory_behind_slot, MTE_ON_ALL_SIZES | MTE_ON_OPTIONAL },
	/* A huge page of the same place is too rare to wait for. */
	{ "next_vm_sees_no_tags_of_the_last", next_vm,
	  (MTE_ON_ALL_SIZES | MTE_ON_OPTIONAL) & ~BIT(MTE_THP) },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_SIZE(cases));
}
