// SPDX-License-Identifier: GPL-2.0
/*
 * mte_migration_test - a running guest with MTE moves into another VM
 *
 * This is what KVM_ARM_MTE_COPY_TAGS is for. A guest is stopped in the middle of
 * its work; its memory with its tags, and its registers, are copied into a
 * second VM, where it goes on. In the end the guest looks at all of its memory
 * and at its MTE registers.
 *
 *  - paused: the guest is stopped before its memory is copied
 *  - pre-copy: the guest goes on writing data, tags, or both while its memory is
 *    copied under dirty logging, again and again what it dirtied; it is stopped
 *    for the last round only. A page that is copied while the guest writes may
 *    well get tags that do not match its data: the dirty log says so, and the
 *    page is copied once more
 *
 * As a VMM would do, pages of zeros with tags of zero are not written. The new
 * VM's memory is made of pages with stale tags: the guest must not see any.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "kselftest.h"
#include "mte.h"

#define IPA		MTE_REGION_IPA
#define SIZE		(2 * MTE_BLOCK)
#define PAGES		(SIZE / MTE_PAGE)
/*
 * The guest works on the pages before this one in turn and does not know the
 * others. No multiple of three: see update_page().
 */
#define WORKED_ON	767UL

/*
 * How many pages the guest updates before it reports how far it is. It can be
 * stopped then only, so these are multiples of it:
 */
#define REPORT_EVERY	8UL
/* Updates before anything is copied: each page once, and some twice */
#define BEFORE		(WORKED_ON + 201)
/* ... while the whole memory is copied, and in each round after that */
#define IN_FIRST_ROUND	120UL
#define IN_ROUND	64UL
#define ROUNDS		3
/* ... and in the new VM */
#define AFTER		(WORKED_ON / 2)

/*
 * The guest's side
 */

#define READ_SYSREG(encoding) ({					\
	u64 value;							\
									\
	asm volatile("mrs %0, " encoding : "=r" (value));		\
	value;								\
})
#define WRITE_SYSREG(encoding, value) ({				\
	asm volatile("msr " encoding ", %0" : : "r" ((u64)(value)));	\
})

#define RGSR		"S3_0_C1_C0_5"
#define GCR		"S3_0_C1_C0_6"
#define TFSR		"S3_0_C5_C6_0"
#define TFSRE0		"S3_0_C5_C6_1"
#define RGSR_VALUE	0x5a1706UL
#define GCR_VALUE	0x1a5c3UL
#define TFSR_VALUE	0x2UL
#define TFSRE0_VALUE	0x1UL

/* Update number @n, counted from 1, writes this to a page. */
static inline u64 page_of(u64 n)
{
	return (n - 1) % WORKED_ON;
}

static inline bool writes_tags(u64 n)
{
	return n % 3 != 1;
}

static inline bool writes_data(u64 n)
{
	return n % 3 != 2;
}

static inline u64 tag_of(u64 n, u64 granule)
{
	return mte_pattern_tag(n << 20 | 0xf00, granule);
}

static inline u64 data_of(u64 n, u64 granule)
{
	return (n << 32 | granule) * 0x9e3779b97f4a7c15UL;
}

static void update_page(u64 n)
{
	u64 addr = IPA + page_of(n) * MTE_PAGE, i;

	for (i = 0; i < MTE_GRANULES_PER_PAGE; i++, addr += MTE_GRANULE) {
		if (writes_data(n))
			WRITE_ONCE(*(u64 *)addr, data_of(n, i));
		if (writes_tags(n))
			mte_guest_store_tag(addr, tag_of(n, i));
	}
}

/* Pages with a granule whose tag or data is not what the last update made it */
static u64 count_wrong_pages(u64 last)
{
	u64 page, n, tags, data, addr, i, wrong = 0;
	bool bad;

	for (page = 0; page < WORKED_ON; page++) {
		n = page + 1;
		while (n + WORKED_ON <= last)
			n += WORKED_ON;
		/* Not every update writes both: it may be an earlier one. */
		for (tags = n; !writes_tags(tags); tags -= WORKED_ON)
			if (tags <= WORKED_ON)
				break;
		for (data = n; !writes_data(data); data -= WORKED_ON)
			if (data <= WORKED_ON)
				break;

		bad = false;
		addr = IPA + page * MTE_PAGE;
		for (i = 0; i < MTE_GRANULES_PER_PAGE; i++, addr += MTE_GRANULE) {
			bad |= mte_guest_load_tag(addr) !=
			       (writes_tags(tags) ? tag_of(tags, i) : 0);
			bad |= READ_ONCE(*(u64 *)addr) !=
			       (writes_data(data) ? data_of(data, i) : 0);
		}
		wrong += bad;
	}

	return wrong;
}

static u64 count_wrong_registers(void)
{
	return (READ_SYSREG(RGSR) != RGSR_VALUE) +
	       (READ_SYSREG(GCR) != GCR_VALUE) +
	       (READ_SYSREG(TFSR) != TFSR_VALUE) +
	       (READ_SYSREG(TFSRE0) != TFSRE0_VALUE);
}

/* Returns the wrong pages and, in the upper half, the wrong registers. */
static u64 work(u64 updates, u64 b, u64 c, u64 d)
{
	u64 n;

	WRITE_SYSREG(RGSR, RGSR_VALUE);
	WRITE_SYSREG(GCR, GCR_VALUE);
	WRITE_SYSREG(TFSR, TFSR_VALUE);
	WRITE_SYSREG(TFSRE0, TFSRE0_VALUE);

	for (n = 1; n <= updates; n++) {
		update_page(n);
		if (n % REPORT_EVERY == 0)
			mte_guest_report(n);
	}

	return count_wrong_registers() << 32 | count_wrong_pages(updates);
}

/*
 * The VMM's side
 */

/* Runs the vCPU up to a number of updates, and waits for a higher number. */
struct runner {
	pthread_t thread;
	struct mte_vm *m;
	u64 limit;
	u64 reached;
	bool stop;
};

static void *runner_main(void *arg)
{
	struct runner *r = arg;
	struct mte_stop stop;

	while (!__atomic_load_n(&r->stop, __ATOMIC_ACQUIRE)) {
		if (r->reached >= __atomic_load_n(&r->limit, __ATOMIC_ACQUIRE)) {
			usleep(500);
			continue;
		}
		stop = mte_guest_run(r->m);
		if (stop.why != MTE_REPORTED)
			mte_die_of_stop(stop, "in the old VM");
		__atomic_store_n(&r->reached, stop.value, __ATOMIC_RELEASE);
	}

	return NULL;
}

static void runner_let_go_on(struct runner *r, u64 updates)
{
	__atomic_store_n(&r->limit, r->limit + updates, __ATOMIC_RELEASE);
}

static void runner_wait(struct runner *r)
{
	while (__atomic_load_n(&r->reached, __ATOMIC_ACQUIRE) < r->limit)
		usleep(500);
}

static bool is_zero(const void *mem, size_t size)
{
	const char *p = mem;

	return !*p && !memcmp(p, p + 1, size - 1);
}

/* Copy a page with its tags; returns false if there was nothing to be written. */
static bool copy_page(struct mte_vm *from, struct mte_vm *to, u64 page)
{
	u64 offset = page * MTE_PAGE;
	u8 tags[MTE_MAX_TAGS] = {};

	if (!mte_expect_return(mte_read_tags(from, IPA + offset, tags, MTE_PAGE), MTE_PAGE,
			       "a read"))
		return false;
	if (is_zero(tags, sizeof(tags)) && is_zero(from->hva + offset, MTE_PAGE))
		return false;

	memcpy(to->hva + offset, from->hva + offset, MTE_PAGE);

	return mte_expect_return(mte_write_tags(to, IPA + offset, tags, MTE_PAGE), MTE_PAGE,
				 "a write");
}

static unsigned long copy_all(struct mte_vm *from, struct mte_vm *to)
{
	unsigned long written = 0;
	u64 page;

	for (page = 0; page < PAGES; page++)
		written += copy_page(from, to, page);

	return written;
}

static unsigned long copy_dirty(struct mte_vm *from, struct mte_vm *to)
{
	unsigned long *bitmap = bitmap_zalloc(PAGES);
	unsigned long dirty = 0;
	u64 page;

	kvm_vm_get_dirty_log(from->vm, MTE_REGION_SLOT, bitmap);
	for (page = 0; page < PAGES; page++) {
		if (!test_bit(page, bitmap))
			continue;
		copy_page(from, to, page);
		dirty++;
	}
	free(bitmap);

	return dirty;
}

/* The program, its stack and its stage-1 tables, with their tags */
static void copy_program(struct mte_vm *from, struct mte_vm *to)
{
	size_t size, size_to;
	void *mem = mte_vm_program_memory(from, &size);
	void *mem_to = mte_vm_program_memory(to, &size_to);
	u8 *tags = malloc(size / MTE_GRANULE);

	if (size != size_to)
		mte_die("slot 0 has %zu and %zu bytes", size, size_to);
	memcpy(mem_to, mem, size);
	if (mte_read_tags(from, 0, tags, size) != (long)size ||
	    mte_write_tags(to, 0, tags, size) != (long)size)
		mte_die("cannot copy the tags of the program's memory");
	free(tags);
}

static void copy_registers(struct mte_vm *from, struct mte_vm *to)
{
	struct kvm_reg_list *list;
	u8 value[256], now[256];
	struct kvm_one_reg reg;
	size_t size;
	u64 i;

	/* The report is an access that is not completed yet. */
	vcpu_run_complete_io(from->vcpu);
	vcpu_run_complete_io(to->vcpu);

	list = vcpu_get_reg_list(from->vcpu);
	for (i = 0; i < list->n; i++) {
		reg.id = list->reg[i];
		reg.addr = (uintptr_t)value;
		size = 1UL << ((reg.id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
		if (ioctl(from->vcpu->fd, KVM_GET_ONE_REG, &reg))
			mte_die("cannot read register %#lx: %s",
				(unsigned long)reg.id, strerror(errno));
		if (!ioctl(to->vcpu->fd, KVM_SET_ONE_REG, &reg))
			continue;
		/* Some cannot change once a vCPU has run: they need not. */
		reg.addr = (uintptr_t)now;
		if (ioctl(to->vcpu->fd, KVM_GET_ONE_REG, &reg) || memcmp(now, value, size))
			mte_die("cannot write register %#lx", (unsigned long)reg.id);
	}
	free(list);
}

static void migrate(const struct mte_case *c)
{
	bool pre_copy = c->arg;
	u64 updates = BEFORE + AFTER + (pre_copy ? IN_FIRST_ROUND +
		      ROUNDS * IN_ROUND : 0);
	struct runner r = { .limit = BEFORE };
	unsigned long written, dirty[ROUNDS] = {};
	struct mte_vm *from, *to;
	struct mte_stop stop;
	unsigned int i;

	from = mte_vm_create_on(c->backing, SIZE, MTE_DIRTY);
	mte_vm_spare_huge_pages(from);
	mte_guest_start(from, work, updates, 0, 0, 0);

	r.m = from;
	kvm_pthread_create(&r.thread, NULL, runner_main, &r);
	runner_wait(&r);
	mte_need_huge_page(from);

	/* Stale tags again where the first guest did not need the memory */
	to = mte_vm_create_on(c->backing, SIZE, MTE_DIRTY);

	/* Once beforehand, to count the pages of the test memory only */
	copy_program(from, to);
	mte_begin_counting_stale_pages();

	if (pre_copy) {
		mte_vm_log_dirty_pages(from, true);
		runner_let_go_on(&r, IN_FIRST_ROUND);
	}
	written = copy_all(from, to);
	if (pre_copy) {
		runner_wait(&r);
		for (i = 0; i < ROUNDS - 1; i++) {
			runner_let_go_on(&r, IN_ROUND);
			dirty[i] = copy_dirty(from, to);
		}
		runner_let_go_on(&r, IN_ROUND);
		runner_wait(&r);
	}
	__atomic_store_n(&r.stop, true, __ATOMIC_RELEASE);
	pthread_join(r.thread, NULL);
	if (pre_copy)
		dirty[ROUNDS - 1] = copy_dirty(from, to);
	copy_program(from, to);
	copy_registers(from, to);

	if (pre_copy)
		ksft_print_msg("%lu pages written, then %lu, %lu, %lu dirty, %lu updates\n",
			       written, dirty[0], dirty[1], dirty[2],
			       (unsigned long)r.reached);
	mte_expect(written >= WORKED_ON, "only %lu pages were written", written);
	/* Whatever the rounds before saw: the last one had this much to find. */
	if (pre_copy)
		mte_expect(dirty[ROUNDS - 1] >= IN_ROUND,
			   "only %lu pages were dirty in the last round",
			   dirty[ROUNDS - 1]);

	do {
		stop = mte_guest_run(to);
	} while (stop.why == MTE_REPORTED);
	if (stop.why != MTE_RETURNED)
		mte_die_of_stop(stop, "in the new VM");
	mte_expect(!(u32)stop.value, "the guest finds %u of %lu pages wrong",
		   (u32)stop.value, WORKED_ON);
	mte_expect(!(stop.value >> 32), "the guest finds %lu registers wrong",
		   (unsigned long)(stop.value >> 32));

	/* What it never worked on */
	mte_expect_guest_sees(to, IPA + WORKED_ON * MTE_PAGE,
			      SIZE - WORKED_ON * MTE_PAGE, MTE_ALL_ZERO,
			      "pages that were not written");
	mte_guest_store(to, IPA + WORKED_ON * MTE_PAGE,
			SIZE - WORKED_ON * MTE_PAGE);
	mte_expect_guest_sees(to, IPA + WORKED_ON * MTE_PAGE,
			      SIZE - WORKED_ON * MTE_PAGE, MTE_ALL_ZERO,
			      "pages that were not written, after stores");
	mte_end_counting_stale_pages(to);
}

static const struct mte_case cases[] = {
	{ "paused_guest_finds_its_memory_in_the_new_vm", migrate, MTE_ON_ALL, false },
	{ "running_guest_finds_its_memory_in_the_new_vm", migrate, MTE_ON_ALL, true },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_SIZE(cases));
}
