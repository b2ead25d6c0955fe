// SPDX-License-Identifier: GPL-2.0
/*
 * mte_copy_tags_test - the ABI of KVM_ARM_MTE_COPY_TAGS
 *
 * Arguments that are refused with EINVAL, whatever else they ask for, and
 * change neither tags nor buffer:
 *  - an IPA or a length that is not a multiple of the page size
 *  - unknown flags, a reserved word that is not zero
 *  - a VM without MTE
 *  - a length above INT_MAX, which the return value could not express
 *
 * Copies that end early: EFAULT if the first page cannot be done, else the
 * number of bytes of guest memory that were done, with all of them done
 * completely and nothing behind them changed:
 *  - a hole in the guest's memory
 *  - a buffer that cannot be read or written
 *  - a write to a read-only memslot; reads of one work
 *  - a write to a page that the VMM itself can only read
 * The same for copies of many pages, which a kernel may do several at a time,
 * when the end comes in the middle. A memslot that ends where another one
 * begins is no end, nor is memory of which some pages were never touched.
 *
 * Tags:
 *  - a write that fails within a page leaves that page's tags as they were,
 *    or zero if the page had none
 *  - only the low four bits of a byte count
 *  - pages without tags read as zeros, whatever is in tag storage
 *  - a length of 0 does nothing and returns 0
 *  - what is written is what the guest sees and what is read back, from one
 *    page to 64 MiB, to memory not touched before, too
 *  - what the guest sets is what is read
 *
 * Dirty logging (MTE_ABI_LOGS_WRITES): a VMM that writes tags while pages are
 * logged is told that it cannot, with EBUSY and nothing changed; or it finds these
 * pages, and no others, in the dirty log: all of them, also if one write is for many
 * pages of two memslots. Reads go on and dirty nothing.
 *
 * A copy of much memory ends early when its process is killed.
 *
 * When the VM is gone, all of its memory is free again, however the copies of its
 * tags ended.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/userfaultfd.h>

#include "kselftest.h"
#include "mte.h"

/* Two patterns that differ at nearly every granule */
#define OLD_TAGS	0x01d7a65ULL
#define NEW_TAGS	0x4e37a65ULL

#define READ		KVM_ARM_TAGS_FROM_GUEST
#define WRITE		KVM_ARM_TAGS_TO_GUEST

/* No tag has this value. */
#define UNTOUCHED	0xee

#define IPA		MTE_REGION_IPA
#define TAGS_PER_PAGE	MTE_GRANULES_PER_PAGE

/* Where in a page's tags, 256 at least, a buffer becomes inaccessible */
#define TAGS_BEFORE_FAULT	100

/*
 * A copy of many pages, and where it may end. A kernel may do 128 KiB at a time, which
 * is two pages of 64 KiB: odd numbers
 */
#define MANY_PAGES	201
#define MANY		(MANY_PAGES * MTE_PAGE)
#define SOME_PAGES	151
#define SOME		(SOME_PAGES * MTE_PAGE)

/* What a copy has before it when its process is killed: much more than a bit */
#define KILL_SIZE		(512UL << 20)
#define KILL_HOLD_US		200000

static struct mte_vm *create_vm(enum mte_backing backing, size_t size)
{
	return mte_vm_create_on(backing, size, 0);
}

/*
 * What an ioctl that must be refused could damage: two pages of tags and a
 * buffer.
 */
static struct mte_vm *create_vm_with_old_tags(enum mte_backing backing)
{
	struct mte_vm *m = create_vm(backing, 2 * MTE_PAGE);

	mte_write_pattern(m, IPA, 2 * MTE_PAGE, OLD_TAGS);

	return m;
}

static void expect_refused(struct mte_vm *m, struct kvm_arm_copy_mte_tags args,
			   u64 flags, int error, const char *what)
{
	u8 buffer[2 * MTE_MAX_TAGS], fill = flags & READ ? UNTOUCHED : 5;
	size_t i, changed = 0;
	char text[80];

	/* The guest's tags are not all 5. */
	memset(buffer, fill, sizeof(buffer));
	args.flags |= flags;
	args.addr = buffer;
	snprintf(text, sizeof(text), "%s, %s", what, flags & READ ? "read" : "write");
	mte_expect_return(mte_copy(m, &args), -error, text);

	for (i = 0; i < sizeof(buffer); i++)
		changed += buffer[i] != fill;
	mte_expect(!changed, "%s: %zu bytes of the buffer changed", text, changed);
}

static void expect_refused_both_ways(struct mte_vm *m, struct kvm_arm_copy_mte_tags args,
				     int error, const char *what)
{
	expect_refused(m, args, READ, error, what);
	expect_refused(m, args, WRITE, error, what);
	mte_expect_tags(m, IPA, 2 * MTE_PAGE, OLD_TAGS, what);
}

/* arg: which of the arguments is not as it has to be */
enum { GUEST_IPA, LENGTH, FLAGS, RESERVED_0, RESERVED_1 };

static void bad_argument(const struct mte_case *c)
{
	const u64 ipas[] = { 1, 16, MTE_PAGE / 2, MTE_PAGE - 1 };
	const u64 lengths[] = {
		1, 16, 256, MTE_PAGE - 1, MTE_PAGE + 1, MTE_PAGE * 3 / 2
	};
	const u64 words[] = { 1, 1UL << 32, ~0UL };
	const size_t nr[] = {
		ARRAY_SIZE(ipas), ARRAY_SIZE(lengths), 63, ARRAY_SIZE(words),
		ARRAY_SIZE(words)
	};
	struct mte_vm *m = create_vm_with_old_tags(c->backing);
	struct kvm_arm_copy_mte_tags args;
	unsigned int i;

	for (i = 0; i < nr[c->arg]; i++) {
		args = (struct kvm_arm_copy_mte_tags) { .guest_ipa = IPA, .length = MTE_PAGE };
		if (c->arg == GUEST_IPA)
			args.guest_ipa += ipas[i];
		else if (c->arg == LENGTH)
			args.length = lengths[i];
		else if (c->arg == FLAGS)	/* All but the one that says "from guest" */
			args.flags = 2UL << i;
		else
			args.reserved[c->arg - RESERVED_0] = words[i];
		expect_refused_both_ways(m, args, EINVAL, c->property);
	}
}

static void vm_without_mte(const struct mte_case *c)
{
	struct kvm_arm_copy_mte_tags args = { .guest_ipa = IPA, .length = MTE_PAGE };
	struct mte_vm *m = mte_vm_create(false);

	mte_vm_add_memory(m, c->backing, 2 * MTE_PAGE);
	expect_refused(m, args, READ, EINVAL, "VM without MTE");
	expect_refused(m, args, WRITE, EINVAL, "VM without MTE");

	/* Nor is there a way around through a length that does nothing. */
	args.length = 0;
	expect_refused(m, args, READ, EINVAL, "VM without MTE, length 0");
}

static void zero_length(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_with_old_tags(c->backing);

	expect_refused_both_ways(m, (struct kvm_arm_copy_mte_tags) {
		.guest_ipa = IPA,
		.length = 0,
	}, 0, "length 0");
}

static void length_above_int_max(const struct mte_case *c)
{
	/*
	 * There is a hole behind the test memory. If the length is let through,
	 * two pages are done in no time, however large it is.
	 */
	const u64 lengths[] = {
		(u64)INT_MAX + 1,
		(u64)INT_MAX + 1 + MTE_PAGE,
		1UL << 32,
		(1UL << 32) + MTE_PAGE,
		1UL << 63,
		-MTE_PAGE,
	};
	struct mte_vm *m = create_vm_with_old_tags(c->backing);
	struct kvm_arm_copy_mte_tags args = { .guest_ipa = IPA };
	char what[40];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(lengths); i++) {
		args.length = lengths[i];
		snprintf(what, sizeof(what), "length %#lx",
			 (unsigned long)lengths[i]);
		expect_refused(m, args, c->arg, EINVAL, what);
	}
	mte_expect_ioctl_reads(m, IPA, 2 * MTE_PAGE, OLD_TAGS, c->property);
}

/*
 * The largest length is no error: the copy goes as far as there is memory.
 */
static void length_of_int_max(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_with_old_tags(c->backing);
	u8 buffer[2 * MTE_MAX_TAGS];

	mte_expect_return(mte_read_tags(m, IPA, buffer, INT_MAX & ~(MTE_PAGE - 1)),
			  2 * MTE_PAGE, "a read");
}

static void hole_first(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_with_old_tags(c->backing);

	expect_refused_both_ways(m, (struct kvm_arm_copy_mte_tags) {
		.guest_ipa = IPA - MTE_PAGE,
		.length = 2 * MTE_PAGE,
	}, EFAULT, "hole first");
	expect_refused_both_ways(m, (struct kvm_arm_copy_mte_tags) {
		.guest_ipa = IPA + 2 * MTE_PAGE,
		.length = MTE_PAGE,
	}, EFAULT, "nothing but a hole");
	/* An IPA that no guest can have is a hole like any other. */
	expect_refused_both_ways(m, (struct kvm_arm_copy_mte_tags) {
		.guest_ipa = 1UL << 60,
		.length = MTE_PAGE,
	}, EFAULT, "IPA out of range");
}

/* Where the buffer ends, beside the direction: behind a page, behind some tags */
#define ONE_PAGE_GOOD	0x10
#define SOME_TAGS_GOOD	0x20

/* Copy two pages with a buffer of which only the first part is there. */
static void bad_buffer(const struct mte_case *c)
{
	size_t done = c->arg & ONE_PAGE_GOOD ? MTE_PAGE : 0;
	size_t i, bad = 0, good = done / MTE_GRANULE;
	struct mte_vm *m = create_vm_with_old_tags(c->backing);
	u8 *buffer;
	long ret;

	if (c->arg & SOME_TAGS_GOOD)
		good += TAGS_BEFORE_FAULT;
	buffer = mte_alloc_before_fault(good);
	if (c->arg & READ) {
		/*
		 * Anything may be in what is there of the buffer for the page
		 * that failed, but not for those that are done.
		 */
		ret = mte_read_tags(m, IPA, buffer, 2 * MTE_PAGE);
		for (i = 0; i < done / MTE_GRANULE; i++)
			bad += buffer[i] != mte_pattern_tag(OLD_TAGS, i);
		mte_expect(!bad, "%zu tags of pages done are wrong", bad);
		mte_expect_guest_sees(m, IPA, 2 * MTE_PAGE, OLD_TAGS, "pages read");
	} else {
		mte_fill_pattern(buffer, good, NEW_TAGS);
		ret = mte_write_tags(m, IPA, buffer, 2 * MTE_PAGE);
		mte_expect_tags(m, IPA, done, NEW_TAGS, "pages done");
		mte_expect_tags(m, IPA + done, 2 * MTE_PAGE - done, OLD_TAGS,
				"pages not done");
	}
	mte_expect_return(ret, done ? (long)done : -EFAULT, "the copy");
}

/*
 * Copy many pages. @done bytes of them can be done, and have OLD_TAGS, as has
 * all of the @size bytes of memory; @tags has NEW_TAGS if they are written.
 */
static void expect_many_pages_done(struct mte_vm *m, u64 direction, u8 *tags,
				   size_t done, size_t size)
{
	size_t i, bad = 0;
	long ret;

	if (direction == WRITE) {
		ret = mte_write_tags(m, IPA, tags, MANY);
		mte_expect_guest_sees(m, IPA, done, NEW_TAGS, "pages done");
		if (size > done)
			mte_expect_guest_sees(m, IPA + done, size - done,
					      OLD_TAGS, "pages not done");
	} else {
		ret = mte_read_tags(m, IPA, tags, MANY);
		for (i = 0; i < done / MTE_GRANULE; i++)
			bad += tags[i] != mte_pattern_tag(OLD_TAGS, i);
		mte_expect(!bad, "%zu tags of pages done are wrong", bad);
	}
	mte_expect_return(ret, done, "the copy");
}

static void many_pages_up_to_hole(const struct mte_case *c)
{
	size_t i, nr = MANY_PAGES * TAGS_PER_PAGE;
	struct mte_vm *m = create_vm(c->backing, SOME);
	u8 *tags = malloc(nr);

	mte_write_pattern(m, IPA, SOME, OLD_TAGS);
	if (c->arg == WRITE)
		mte_fill_pattern(tags, nr, NEW_TAGS);
	else
		memset(tags, UNTOUCHED, nr);
	expect_many_pages_done(m, c->arg, tags, SOME, SOME);
	if (c->arg == WRITE)
		return;
	for (i = SOME_PAGES * TAGS_PER_PAGE; i < nr; i++)
		if (!mte_expect(tags[i] == UNTOUCHED,
				"byte %zu changed for the hole", i))
			break;
}

static void many_pages_with_short_buffer(const struct mte_case *c)
{
	size_t good = SOME_PAGES * TAGS_PER_PAGE + TAGS_BEFORE_FAULT;
	struct mte_vm *m = create_vm(c->backing, MANY);
	u8 *tags = mte_alloc_before_fault(good);

	mte_write_pattern(m, IPA, MANY, OLD_TAGS);
	if (c->arg == WRITE)
		mte_fill_pattern(tags, good, NEW_TAGS);
	expect_many_pages_done(m, c->arg, tags, SOME, MANY);
}

static void many_pages_up_to_one_not_writable(const struct mte_case *c)
{
	size_t nr = MANY_PAGES * TAGS_PER_PAGE;
	struct mte_vm *m = create_vm(c->backing, MANY);
	u8 *tags = malloc(nr);

	mte_write_pattern(m, IPA, MANY, OLD_TAGS);
	if (mprotect(m->hva + SOME, MTE_PAGE, PROT_READ))
		mte_die("mprotect: %s", strerror(errno));
	expect_many_pages_done(m, READ, tags, MANY, MANY);
	mte_fill_pattern(tags, nr, NEW_TAGS);
	expect_many_pages_done(m, WRITE, tags, SOME, MANY);
}

/*
 * Two slots side by side, while their memory is not: what follows the first
 * one's has other tags.
 */
static void many_pages_across_slots(const struct mte_case *c)
{
	char *mem = kvm_mmap(3 * SOME, PROT_READ | PROT_WRITE | PROT_MTE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct mte_vm *m = mte_vm_create(true);
	char *second = mem + 2 * SOME;
	u64 bad;

	memset(mem, 1, 3 * SOME);
	if (mte_vm_add_mapping(m, mem, SOME) ||
	    mte_set_slot(m->vm, MTE_OTHER_SLOT, 0, IPA + SOME, second, SOME))
		mte_die("cannot add memory: %s", strerror(errno));

	mte_vmm_set_pattern(mem, IPA, SOME, OLD_TAGS);
	mte_vmm_set_pattern(mem + SOME, IPA + SOME, SOME, MTE_ALL_ZERO);
	mte_vmm_set_pattern(second, IPA + SOME, SOME, OLD_TAGS);
	mte_expect_ioctl_reads(m, IPA, 2 * SOME, OLD_TAGS, "two slots");

	mte_write_pattern(m, IPA, 2 * SOME, NEW_TAGS);
	mte_expect_guest_sees(m, IPA, SOME, NEW_TAGS, "first slot");
	bad = mte_vmm_mismatches(second, IPA + SOME, SOME, NEW_TAGS) +
	      mte_vmm_mismatches(mem + SOME, IPA + SOME, SOME, MTE_ALL_ZERO);
	mte_expect(!bad, "%lu tags are wrong behind the first slot",
		   (unsigned long)bad);
}

/* Pages that are there, that were only read from, or that are not there yet */
static void many_pages_of_all_kinds(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create_on(c->backing, MANY, MTE_DIRTY);
	unsigned int i;
	char *page;

	for (i = 0; i < MANY_PAGES; i++) {
		page = m->hva + i * MTE_PAGE;
		if (i % 7 < 3)
			WRITE_ONCE(*page, 1);
		else if (i % 7 == 5)
			READ_ONCE(*page);
	}
	mte_expect_ioctl_reads(m, IPA, MANY, MTE_ALL_ZERO, "before");
	mte_write_pattern(m, IPA, MANY, NEW_TAGS);
	mte_expect_tags(m, IPA, MANY, NEW_TAGS, "after");
}

/* The kernel's half of the address space is no buffer. */
static void kernel_address(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_with_old_tags(c->backing);
	void *kernel = (void *)0xffff000000000000UL;

	mte_expect_return(mte_read_tags(m, IPA, kernel, MTE_PAGE), -EFAULT, "a read");
	mte_expect_return(mte_write_tags(m, IPA, kernel, MTE_PAGE), -EFAULT, "a write");
}

static void failed_write(const struct mte_case *c)
{
	size_t size = c->backing == MTE_ANON || c->backing == MTE_MEMFD ?
		      4 * MTE_PAGE : MTE_BLOCK;
	struct mte_vm *m = create_vm(c->backing, size);
	u8 *buffer = mte_alloc_before_fault(c->arg);

	/* As a guest would have set them */
	mte_guest_set_pattern(m, IPA, size, OLD_TAGS);
	mte_need_huge_page(m);

	mte_fill_pattern(buffer, c->arg, NEW_TAGS);
	mte_expect_return(mte_write_tags(m, IPA + MTE_PAGE, buffer, MTE_PAGE), -EFAULT,
			  "a write");
	mte_expect_tags(m, IPA, size, OLD_TAGS, "after a failed write");
}

static void failed_write_to_untagged_page(const struct mte_case *c)
{
	u8 *buffer = mte_alloc_before_fault(TAGS_BEFORE_FAULT);
	struct mte_vm *m;

	m = mte_vm_create_on(c->backing, 4 * MTE_PAGE, MTE_DIRTY | MTE_TOUCHED);
	mte_fill_pattern(buffer, TAGS_BEFORE_FAULT, NEW_TAGS);
	mte_begin_counting_stale_pages();
	mte_expect_return(mte_write_tags(m, IPA + MTE_PAGE, buffer, MTE_PAGE), -EFAULT,
			  "a write");
	mte_expect_tags(m, IPA, 4 * MTE_PAGE, MTE_ALL_ZERO, "after a failed write");
	mte_end_counting_stale_pages(m);
}

static void read_only_slot(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_with_old_tags(c->backing);
	u8 buffer[MTE_MAX_TAGS];
	size_t i, bad = 0;

	if (mte_set_slot(m->vm, MTE_OTHER_SLOT, KVM_MEM_READONLY, MTE_ALIAS_IPA, m->hva,
			 MTE_PAGE))
		mte_die("no read-only slot: %s", strerror(errno));

	if (c->arg == WRITE) {
		expect_refused(m, (struct kvm_arm_copy_mte_tags) {
			.guest_ipa = MTE_ALIAS_IPA,
			.length = MTE_PAGE,
		}, WRITE, EFAULT, "read-only slot");
		mte_expect_guest_sees(m, IPA, 2 * MTE_PAGE, OLD_TAGS,
				      "memory of a read-only slot");
		return;
	}

	mte_expect_return(mte_read_tags(m, MTE_ALIAS_IPA, buffer, MTE_PAGE), MTE_PAGE,
			  "a read");
	for (i = 0; i < TAGS_PER_PAGE; i++)
		bad += buffer[i] != mte_pattern_tag(OLD_TAGS, i);
	mte_expect(!bad, "%zu of %lu tags are wrong", bad, TAGS_PER_PAGE);
}

static void high_nibble(const struct mte_case *c)
{
	struct mte_vm *m = create_vm_with_old_tags(c->backing);
	u8 buffer[MTE_MAX_TAGS];
	unsigned int i;

	/* Each high nibble meets each tag. */
	mte_fill_pattern(buffer, sizeof(buffer), NEW_TAGS);
	for (i = 0; i < sizeof(buffer); i++)
		buffer[i] |= i & 0xf0;

	mte_expect_return(mte_write_tags(m, IPA, buffer, MTE_PAGE), MTE_PAGE, "a write");
	/* Bytes above 15 in what is read would be mismatches, too. */
	mte_expect_tags(m, IPA, MTE_PAGE, NEW_TAGS, "high nibble set");
}

enum { ONE_BLOCK, ONE_PAGE, MUCH };

static void round_trip(const struct mte_case *c)
{
	size_t size = c->arg == ONE_PAGE ? MTE_PAGE :
		      c->arg == MUCH ? 64UL << 20 : MTE_BLOCK;
	struct mte_vm *m = mte_vm_create_on(c->backing, size, MTE_DIRTY);

	/* Memory that nothing has touched yet */
	mte_write_pattern(m, IPA, size, NEW_TAGS);
	mte_expect_tags(m, IPA, size, NEW_TAGS, "first write");

	/* Now it has tags, and the guest has it mapped. */
	mte_write_pattern(m, IPA, size, OLD_TAGS);
	mte_expect_tags(m, IPA, size, OLD_TAGS, "second write");
}

static void guest_tags(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create_on(c->backing, MTE_BLOCK, MTE_DIRTY);

	/* Every other page, to leave some that the guest only loads from */
	mte_guest_set_pattern(m, IPA, MTE_BLOCK / 2, NEW_TAGS);
	mte_guest_load(m, IPA, MTE_BLOCK);
	mte_need_huge_page(m);
	mte_expect_ioctl_reads(m, IPA, MTE_BLOCK / 2, NEW_TAGS,
			       "tags set by the guest");
	mte_expect_ioctl_reads(m, IPA + MTE_BLOCK / 2, MTE_BLOCK / 2,
			       MTE_ALL_ZERO, "pages the guest only read");
}

/*
 * Dirty logging
 */

#define LOGGED_PAGES		(MTE_BLOCK / MTE_PAGE)

/* Expect the pages from @first to before @end to be dirty in that slot, and no others. */
static void expect_log(struct mte_vm *m, unsigned int slot, unsigned int first,
		       unsigned int end, const char *when)
{
	unsigned long *bitmap = bitmap_zalloc(LOGGED_PAGES);
	unsigned int i, wrong = 0;

	kvm_vm_get_dirty_log(m->vm, slot, bitmap);
	for (i = 0; i < LOGGED_PAGES; i++)
		wrong += test_bit(i, bitmap) != (i >= first && i < end);
	mte_expect(!wrong, "%s: the dirty log is wrong about %u pages; pages %u to %u are dirty",
		   when, wrong, first, end);
	free(bitmap);
}

static struct mte_vm *create_logged_vm(const struct mte_case *c)
{
	struct mte_vm *m = create_vm(c->backing, MTE_BLOCK);

	mte_guest_set_pattern(m, IPA, MTE_BLOCK, OLD_TAGS);
	mte_need_huge_page(m);
	mte_vm_log_dirty_pages(m, true);

	/* Is there a log at all? */
	mte_guest_store(m, IPA + 9 * MTE_PAGE, MTE_PAGE);
	expect_log(m, MTE_REGION_SLOT, 9, 10, "a store of the guest");

	return m;
}

static void logged_write(const struct mte_case *c)
{
	unsigned int i, page, pages[] = { 3, 4, 200, 3, LOGGED_PAGES - 1 };
	struct mte_vm *m = create_logged_vm(c);
	u8 tags[MTE_MAX_TAGS];
	u64 ipa;

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		page = pages[i];
		ipa = IPA + page * MTE_PAGE;
		mte_fill_pattern(tags, sizeof(tags), i + 1);
		mte_expect_return(mte_write_tags(m, ipa, tags, MTE_PAGE),
				  MTE_ABI_LOGS_WRITES ? (long)MTE_PAGE : -EBUSY, "a write");
		expect_log(m, MTE_REGION_SLOT, page, page + MTE_ABI_LOGS_WRITES, "a write");
		if (MTE_ABI_LOGS_WRITES)
			mte_expect_guest_sees(m, ipa, MTE_PAGE, i + 1,
					      "tags written under dirty logging");
	}
	if (!MTE_ABI_LOGS_WRITES)
		mte_expect_guest_sees(m, IPA, MTE_BLOCK, OLD_TAGS,
				      "after refused writes");

	/* It is the logging that is busy, nothing else. */
	mte_vm_log_dirty_pages(m, false);
	mte_write_pattern(m, IPA, MTE_BLOCK, NEW_TAGS);
	mte_expect_guest_sees(m, IPA, MTE_BLOCK, NEW_TAGS, "logging is off");
}

/* The pages done before the copy ends early are changed, and hence dirty. */
static void logged_write_that_fails(const struct mte_case *c)
{
	u8 *buffer = mte_alloc_before_fault(TAGS_PER_PAGE + TAGS_BEFORE_FAULT);
	struct mte_vm *m = create_logged_vm(c);

	mte_fill_pattern(buffer, TAGS_PER_PAGE + TAGS_BEFORE_FAULT, NEW_TAGS);
	mte_expect_return(mte_write_tags(m, IPA + 5 * MTE_PAGE, buffer, 2 * MTE_PAGE),
			  MTE_ABI_LOGS_WRITES ? (long)MTE_PAGE : -EBUSY, "a write");
	expect_log(m, MTE_REGION_SLOT, 5, 5 + MTE_ABI_LOGS_WRITES, "a write");
}

/*
 * One write for the end of one slot and the beginning of the next one. c->arg: up
 * to where the buffer can be read
 */
static void logged_write_of_many_pages(const struct mte_case *c)
{
	unsigned int first = LOGGED_PAGES - SOME_PAGES, end = SOME_PAGES - !!c->arg;
	struct mte_vm *m = create_vm(c->backing, MTE_BLOCK);
	size_t nr = 2 * SOME_PAGES * TAGS_PER_PAGE - c->arg;
	u8 *tags = mte_alloc_before_fault(nr);
	char *second;

	second = kvm_mmap(MTE_BLOCK, PROT_READ | PROT_WRITE | PROT_MTE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (mte_set_slot(m->vm, MTE_OTHER_SLOT, KVM_MEM_LOG_DIRTY_PAGES,
			 IPA + MTE_BLOCK, second, MTE_BLOCK))
		mte_die("cannot add memory: %s", strerror(errno));
	mte_guest_store(m, IPA, MTE_BLOCK);
	mte_need_huge_page(m);
	mte_vm_log_dirty_pages(m, true);

	mte_fill_pattern(tags, nr, NEW_TAGS);
	mte_expect_return(mte_write_tags(m, IPA + first * MTE_PAGE, tags, 2 * SOME),
			  (SOME_PAGES + end) * MTE_PAGE, "a write");
	expect_log(m, MTE_REGION_SLOT, first, LOGGED_PAGES, "the first slot");
	expect_log(m, MTE_OTHER_SLOT, 0, end, "the second slot");
}

/* Logging concerns the memslot that has it, and no other. */
static void write_beside_log(const struct mte_case *c)
{
	char *mem = kvm_mmap(SOME, PROT_READ | PROT_WRITE | PROT_MTE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	struct mte_vm *m = create_logged_vm(c);
	u64 bad;

	if (mte_set_slot(m->vm, MTE_OTHER_SLOT, 0, IPA + MTE_BLOCK, mem, SOME))
		mte_die("cannot add memory: %s", strerror(errno));

	mte_write_pattern(m, IPA + MTE_BLOCK, SOME, NEW_TAGS);
	bad = mte_vmm_mismatches(mem, IPA + MTE_BLOCK, SOME, NEW_TAGS);
	mte_expect(!bad, "%lu tags are wrong", (unsigned long)bad);
	expect_log(m, MTE_REGION_SLOT, 0, 0, "the other slot");
}

static void logged_read(const struct mte_case *c)
{
	struct mte_vm *m = create_logged_vm(c);

	mte_expect_ioctl_reads(m, IPA, MTE_BLOCK, OLD_TAGS, "logging is on");
	expect_log(m, MTE_REGION_SLOT, 0, 0, "a read");
}

/*
 * Memory that comes back
 */

/* On large pages more: what others do with memory is counted in pages, too. */
#define LEAK_SIZE	(MTE_PAGE < 16384 ? 32L << 20 : 2048 * (long)MTE_PAGE)
#define LEAK_PAGES	(LEAK_SIZE / (long)MTE_PAGE)
#define LEAK_ROUNDS	3

enum leak_path {
	/* A copy of all, in one call */
	LEAK_READ,
	LEAK_WRITE,
	/* A call for each page, which fails */
	LEAK_BAD_BUFFER_READ,
	LEAK_BAD_BUFFER_WRITE,
	LEAK_NOT_WRITABLE,
	LEAK_NOT_TAGGABLE,
	LEAK_READ_ONLY_SLOT,
	/* The write has to wait for each page */
	LEAK_LATE_PAGE,
};

/* A thread that gives a page to each fault */
static void *serve_pages(void *arg)
{
	char *zeros = calloc(1, MTE_PAGE);
	int uffd = *(int *)arg;
	void *page;

	while ((page = mte_await_userfault(uffd, -1)))
		mte_serve_page(uffd, page, zeros);

	return NULL;
}

static int let_pages_be_late(char *mem)
{
	static int uffd;
	pthread_t thread;

	uffd = mte_open_userfaultfd(mem, LEAK_SIZE);
	kvm_pthread_create(&thread, NULL, serve_pages, &uffd);
	pthread_detach(thread);

	return uffd;
}

static char *map_for_leak(enum leak_path path)
{
	char *mem = kvm_mmap(LEAK_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);
	int fd;

	madvise(mem, LEAK_SIZE, MADV_NOHUGEPAGE);
	if (path == LEAK_LATE_PAGE)
		return mem;
	if (path == LEAK_NOT_TAGGABLE) {
		/* In place of what was there when the slot was made */
		fd = mte_open_file(LEAK_SIZE);
		if (mmap(mem, LEAK_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, fd, 0) != mem)
			mte_die("cannot map the file: %s", strerror(errno));
		close(fd);
	}
	memset(mem, 1, LEAK_SIZE);
	if (path == LEAK_NOT_WRITABLE &&
	    mprotect(mem, LEAK_SIZE, PROT_READ))
		mte_die("mprotect: %s", strerror(errno));

	return mem;
}

static void copy_all_tags(struct mte_vm *m, enum leak_path path, u64 ipa)
{
	u8 *bad = mte_alloc_before_fault(TAGS_BEFORE_FAULT);
	u64 end = ipa + LEAK_SIZE;
	static u8 *tags;
	long ret;

	/* Not in .bss, which the library may load into the guest, too */
	if (!tags)
		tags = calloc(LEAK_PAGES, TAGS_PER_PAGE);
	if (!tags)
		mte_die("no memory for tags");

	if (path == LEAK_READ || path == LEAK_WRITE || path == LEAK_LATE_PAGE) {
		ret = path == LEAK_READ ?
		      mte_read_tags(m, ipa, tags, LEAK_SIZE) :
		      mte_write_tags(m, ipa, tags, LEAK_SIZE);
		mte_expect_return(ret, LEAK_SIZE, "the copy");
		return;
	}

	for (; ipa < end; ipa += MTE_PAGE) {
		if (path == LEAK_BAD_BUFFER_READ)
			ret = mte_read_tags(m, ipa, bad, MTE_PAGE);
		else if (path == LEAK_BAD_BUFFER_WRITE)
			ret = mte_write_tags(m, ipa, bad, MTE_PAGE);
		else
			ret = mte_write_tags(m, ipa, tags, MTE_PAGE);
		if (!mte_expect_return(ret, -EFAULT, "the copy"))
			break;
	}
	munmap(bad - (MTE_PAGE - TAGS_BEFORE_FAULT), 2 * MTE_PAGE);
}

/* Returns how many pages are lost after the VM and its memory are gone. */
static long lost_pages(struct mte_vm *m, enum leak_path path)
{
	unsigned int flags = path == LEAK_READ_ONLY_SLOT ? KVM_MEM_READONLY : 0;
	size_t before = mte_free_memory(), after;
	int uffd = -1;
	char *mem;

	mem = kvm_mmap(LEAK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (mte_set_slot(m->vm, MTE_OTHER_SLOT, flags, IPA, mem, LEAK_SIZE))
		mte_die("cannot add memory: %s", strerror(errno));
	if (mremap(map_for_leak(path), LEAK_SIZE, LEAK_SIZE,
		   MREMAP_MAYMOVE | MREMAP_FIXED, mem) != mem)
		mte_die("mremap: %s", strerror(errno));
	if (path == LEAK_LATE_PAGE)
		uffd = let_pages_be_late(mem);

	copy_all_tags(m, path, IPA);

	/* Its thread stays where it is. */
	if (uffd >= 0) {
		struct uffdio_range range = { (uintptr_t)mem, LEAK_SIZE };

		ioctl(uffd, UFFDIO_UNREGISTER, &range);
	}
	if (mte_set_slot(m->vm, MTE_OTHER_SLOT, 0, IPA, mem, 0))
		mte_die("cannot delete the slot: %s", strerror(errno));
	munmap(mem, LEAK_SIZE);
	after = mte_free_memory();

	return ((long)before - (long)after) / (long)MTE_PAGE;
}

/* Others use memory, too: what is lost is lost every time. */
static void memory_comes_back(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create(true);
	long lost, least = LEAK_PAGES;
	unsigned int round;

	mte_need_memory(LEAK_SIZE);
	for (round = 0; round < LEAK_ROUNDS; round++) {
		lost = lost_pages(m, c->arg);
		least = lost < least ? lost : least;
	}
	ksft_print_msg("%ld of %ld pages are lost, at least\n", least, LEAK_PAGES);
	mte_expect(least < LEAK_PAGES / 4, "%ld of %ld pages are lost", least,
		   LEAK_PAGES);
}

/*
 * A fatal signal
 */

/*
 * How many bytes of guest memory have been copied is seen from outside: the
 * buffer is a file without pages at first, and gets them as it is used.
 */
static u64 copied(int buffer)
{
	struct stat st;

	if (fstat(buffer, &st))
		mte_die("fstat: %s", strerror(errno));

	return st.st_blocks * 512UL * MTE_GRANULE;
}

static void copy_much(int buffer, u64 direction, bool *ready, bool *go)
{
	struct kvm_arm_copy_mte_tags args = {
		.guest_ipa = IPA,
		.length = KILL_SIZE,
		.addr = kvm_mmap(KILL_SIZE / MTE_GRANULE, PROT_READ | PROT_WRITE,
				 MAP_SHARED, buffer),
		.flags = direction,
	};
	struct mte_vm *m = mte_vm_create(true);
	char *mem = kvm_mmap(KILL_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);

	/*
	 * To fault a page in ends with an error when there is such a signal:
	 * let the pages be there. Reads do with the zero page.
	 */
	madvise(mem, KILL_SIZE, MADV_NOHUGEPAGE);
	if (direction == WRITE)
		memset(mem, 1, KILL_SIZE);
	if (mte_set_slot(m->vm, MTE_REGION_SLOT, 0, IPA, mem, KILL_SIZE))
		mte_die("cannot add memory: %s", strerror(errno));
	__atomic_store_n(ready, true, __ATOMIC_RELEASE);
	while (!__atomic_load_n(go, __ATOMIC_ACQUIRE))
		usleep(1000);
	mte_copy(m, &args);
}

static void fatal_signal(const struct mte_case *c)
{
	int status, buffer = kvm_memfd_alloc(KILL_SIZE / MTE_GRANULE, false);
	u64 before, after;
	bool *ready, *go;
	pid_t pid;

	mte_need_memory(KILL_SIZE + KILL_SIZE / MTE_GRANULE);
	ready = kvm_mmap(MTE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	go = ready + 1;

	fflush(stdout);
	pid = fork();
	if (!pid) {
		copy_much(buffer, c->arg, ready, go);
		_exit(KSFT_PASS);
	}
	if (pid < 0)
		mte_die("no process: %s", strerror(errno));

	while (!__atomic_load_n(ready, __ATOMIC_ACQUIRE)) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			mte_die("the process of the copy died");
		usleep(1000);
	}
	/*
	 * The first page of the buffer is faulted in at once. A copy that is held
	 * there has nearly all before it, even if we are slow.
	 */
	if (race_window_loaded() &&
	    race_window_arm_once("handle_mm_fault", pid, KILL_HOLD_US))
		mte_die("cannot probe handle_mm_fault()");
	__atomic_store_n(go, true, __ATOMIC_RELEASE);
	if (!race_window_loaded() || !race_window_wait_hit())
		while (!copied(buffer))
			if (waitpid(pid, &status, WNOHANG) == pid)
				mte_die("the process of the copy died");
	kill(pid, SIGKILL);
	before = copied(buffer);
	race_window_release();
	waitpid(pid, &status, 0);
	after = copied(buffer);
	race_window_disarm();

	ksft_print_msg("killed after %lu KiB, ended after %lu KiB of %lu KiB\n",
		       (unsigned long)before / 1024, (unsigned long)after / 1024,
		       KILL_SIZE / 1024);
	if (before >= KILL_SIZE)
		mte_run_again("evidence void: killed too late");
	mte_expect(WIFSIGNALED(status), "the process was not killed");
	mte_expect(after < KILL_SIZE, "the copy went on to its end");
}

static const struct mte_case cases[] = {
	{ "unaligned_ipa_is_einval", bad_argument, MTE_ON_ANON, GUEST_IPA },
	{ "unaligned_length_is_einval", bad_argument, MTE_ON_ANON, LENGTH },
	{ "unknown_flags_are_einval", bad_argument, MTE_ON_ANON, FLAGS },
	{ "nonzero_reserved_0_is_einval", bad_argument, MTE_ON_ANON, RESERVED_0 },
	{ "nonzero_reserved_1_is_einval", bad_argument, MTE_ON_ANON, RESERVED_1 },
	{ "vm_without_mte_is_einval", vm_without_mte, MTE_ON_ANON },
	{ "zero_length_returns_zero", zero_length, MTE_ON_ANON },
	{ "read_length_above_int_max_is_einval", length_above_int_max, MTE_ON_ANON, READ },
	{ "write_length_above_int_max_is_einval", length_above_int_max, MTE_ON_ANON, WRITE },
	{ "length_of_int_max_is_no_error", length_of_int_max, MTE_ON_ANON },

	{ "hole_first_is_efault", hole_first, MTE_ON_ANON },
	{ "read_to_bad_buffer_is_efault", bad_buffer, MTE_ON_ANON, READ },
	{ "write_from_bad_buffer_is_efault", bad_buffer, MTE_ON_ANON, WRITE },
	{ "read_to_buffer_bad_in_first_page_is_efault",
	  bad_buffer, MTE_ON_ANON, READ | SOME_TAGS_GOOD },
	{ "write_from_buffer_bad_in_first_page_is_efault",
	  bad_buffer, MTE_ON_ANON, WRITE | SOME_TAGS_GOOD },
	{ "read_to_bad_second_buffer_page_returns_bytes_done",
	  bad_buffer, MTE_ON_ANON, READ | ONE_PAGE_GOOD },
	{ "write_from_bad_second_buffer_page_returns_bytes_done",
	  bad_buffer, MTE_ON_ANON, WRITE | ONE_PAGE_GOOD },
	{ "read_to_buffer_bad_in_second_page_returns_bytes_done",
	  bad_buffer, MTE_ON_ANON, READ | ONE_PAGE_GOOD | SOME_TAGS_GOOD },
	{ "write_from_buffer_bad_in_second_page_returns_bytes_done",
	  bad_buffer, MTE_ON_ANON, WRITE | ONE_PAGE_GOOD | SOME_TAGS_GOOD },
	{ "kernel_address_is_efault", kernel_address, MTE_ON_ANON },
	{ "read_of_many_pages_up_to_hole_returns_bytes_done",
	  many_pages_up_to_hole, MTE_ON_SMALL, READ },
	{ "write_of_many_pages_up_to_hole_returns_bytes_done",
	  many_pages_up_to_hole, MTE_ON_SMALL, WRITE },
	{ "read_of_many_pages_to_short_buffer_returns_bytes_done",
	  many_pages_with_short_buffer, MTE_ON_SMALL, READ },
	{ "write_of_many_pages_from_short_buffer_returns_bytes_done",
	  many_pages_with_short_buffer, MTE_ON_SMALL, WRITE },
	{ "write_of_many_pages_up_to_one_not_writable_returns_bytes_done",
	  many_pages_up_to_one_not_writable, MTE_ON_SMALL },
	{ "copy_of_many_pages_goes_across_slots", many_pages_across_slots, MTE_ON_OWN },
	{ "copy_of_many_pages_of_all_kinds_is_complete", many_pages_of_all_kinds, MTE_ON_SMALL },
	{ "read_only_slot_can_be_read", read_only_slot, MTE_ON_ANON, READ },
	{ "read_only_slot_refuses_write", read_only_slot, MTE_ON_ANON, WRITE },

	{ "failed_write_keeps_existing_tags",
	  failed_write, MTE_ON_ALL | MTE_ON_OPTIONAL, TAGS_BEFORE_FAULT },
	{ "write_failing_at_first_tag_keeps_existing_tags", failed_write, MTE_ON_ALL },
	{ "failed_write_to_untagged_page_shows_no_stale_tags",
	  failed_write_to_untagged_page, MTE_ON_ALL },

	{ "high_nibble_is_ignored", high_nibble, MTE_ON_ANON },
	{ "guest_reads_back_written_tags", round_trip, MTE_ON_ALL | MTE_ON_OPTIONAL, ONE_BLOCK },
	{ "guest_reads_back_written_tags_of_one_page", round_trip, MTE_ON_SMALL, ONE_PAGE },
	{ "guest_reads_back_written_tags_of_64_mib",
	  round_trip, BIT(MTE_ANON) | BIT(MTE_THP), MUCH },
	{ "tags_set_by_guest_are_read", guest_tags, MTE_ON_ALL | MTE_ON_OPTIONAL },

	{ "write_under_dirty_logging_is_in_the_log_or_refused", logged_write, MTE_ON_ALL },
	{ "failing_write_under_dirty_logging_is_in_the_log_or_refused",
	  logged_write_that_fails, MTE_ON_ANON },
	{ "write_of_many_pages_under_dirty_logging_is_all_in_the_log",
	  logged_write_of_many_pages,
	  MTE_IF(MTE_ABI_LOGS_WRITES, MTE_ON_SMALL | BIT(MTE_THP)) },
	{ "failing_write_of_many_pages_under_dirty_logging_is_in_the_log",
	  logged_write_of_many_pages, MTE_IF(MTE_ABI_LOGS_WRITES, MTE_ON_ANON),
	  TAGS_BEFORE_FAULT },
	{ "write_beside_a_logged_slot_succeeds", write_beside_log, MTE_ON_ANON },
	{ "read_under_dirty_logging_makes_nothing_dirty", logged_read, MTE_ON_ALL },

	{ "fatal_signal_ends_a_read", fatal_signal, MTE_ON_OWN, READ },
	{ "fatal_signal_ends_a_write", fatal_signal, MTE_ON_OWN, WRITE },

	{ "read_leaks_no_memory", memory_comes_back, MTE_ON_OWN, LEAK_READ },
	{ "write_leaks_no_memory", memory_comes_back, MTE_ON_OWN, LEAK_WRITE },
	{ "read_to_bad_buffer_leaks_no_memory",
	  memory_comes_back, MTE_ON_OWN, LEAK_BAD_BUFFER_READ },
	{ "write_from_bad_buffer_leaks_no_memory",
	  memory_comes_back, MTE_ON_OWN, LEAK_BAD_BUFFER_WRITE },
	{ "write_to_memory_not_writable_leaks_no_memory",
	  memory_comes_back, MTE_ON_OWN, LEAK_NOT_WRITABLE },
	{ "write_to_shared_file_behind_slot_leaks_no_memory",
	  memory_comes_back, MTE_ON_OWN, LEAK_NOT_TAGGABLE },
	{ "write_to_read_only_slot_leaks_no_memory",
	  memory_comes_back, MTE_ON_OWN, LEAK_READ_ONLY_SLOT },
	{ "write_that_waits_for_each_page_leaks_no_memory",
	  memory_comes_back, MTE_ON_OWN, LEAK_LATE_PAGE },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_SIZE(cases));
}
