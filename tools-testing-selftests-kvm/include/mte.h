/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Memory tagging helpers for KVM selftests
 *
 * A test is a table of cases; each case checks one property on one kind of
 * memory and runs in a process of its own, so that one that fails, dies or
 * hangs does not keep the others from reporting.
 */
#ifndef SELFTEST_KVM_MTE_H
#define SELFTEST_KVM_MTE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <linux/bitmap.h>
#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/kernel.h>
#include <linux/kvm.h>
#include <linux/mman.h>
#include <linux/types.h>

#include "arm64/mte/mte_race_window.h"
#include "kvm_util.h"
#include "processor.h"

/*
 * The host's pages, which the guest's need not be like, and what a PMD maps of
 * them, or less if that is too much memory to test with. The guest knows both.
 */
extern size_t mte_page_size, mte_block_size;

#define MTE_PAGE		mte_page_size
#define MTE_BLOCK		mte_block_size
#define MTE_GRANULE		16UL
#define MTE_GRANULES_PER_PAGE	(MTE_PAGE / MTE_GRANULE)
/* Of the largest pages */
#define MTE_MAX_TAGS		((64UL << 10) / MTE_GRANULE)

enum mte_backing {
	MTE_ANON,	/* private anonymous memory, base pages only */
	MTE_THP,	/* the same, as transparent huge pages of MTE_BLOCK */
	MTE_MEMFD,	/* shared memfd */
	MTE_HUGETLB,	/* private hugetlb pages fresh from the buddy allocator */
	MTE_HUGETLB_CONT,	/* the smallest ones, which a guest gets in pages */
	MTE_SHARED_HUGETLB,	/* shared hugetlb pages, of a memfd */
	MTE_PRIVATE_FILE,	/* private mapping of a file, as mte_open_file() makes */
	MTE_OWN,	/* memory of the test's own choice, if any */
	MTE_PROTECTED,	/* the same, and in protected mode, too */
};

/*
 * Test memory. Its guest virtual address is its IPA. It starts at 4 GiB; what
 * follows it is a hole.
 */
#define MTE_REGION_IPA		(4UL << 30)
/* A second slot on the same memory can be put here. */
#define MTE_ALIAS_IPA		(8UL << 30)

#define MTE_REGION_SLOT		1
/* A slot that the library does not use */
#define MTE_OTHER_SLOT		9

struct mte_vm {
	struct kvm_vm *vm;
	struct kvm_vcpu *vcpu;
	enum mte_backing backing;
	/* The VMM's own address for the test memory */
	char *hva;
	size_t size;
};

/*
 * What the kernel of this tree promises to a VMM: whether a guest with MTE may have
 * hugetlb memory, and private mappings of files; whether hugetlb memory can have
 * PROT_MTE; whether tags written during dirty logging get into the log, or are
 * refused; whether a guest has the pages of a DAX file like those of a device, and
 * RAM that the VMM has mapped uncached.
 */
#ifndef MTE_ABI_HUGETLB
#define MTE_ABI_HUGETLB		1
#endif
#ifndef MTE_ABI_HUGETLB_PROT_MTE
#define MTE_ABI_HUGETLB_PROT_MTE	1
#endif
#ifndef MTE_ABI_DAX_IS_DEVICE
#define MTE_ABI_DAX_IS_DEVICE	0
#endif
#ifndef MTE_ABI_UNCACHED_RAM
#define MTE_ABI_UNCACHED_RAM	1
#endif
#ifndef MTE_ABI_PRIVATE_FILE
#define MTE_ABI_PRIVATE_FILE	0
#endif
#ifndef MTE_ABI_LOGS_WRITES
#define MTE_ABI_LOGS_WRITES	0
#endif

/* For what a case is run on: nothing, unless @condition */
#define MTE_IF(condition, on)	((condition) ? (on) : 0)
#define MTE_ON_OWN		BIT(MTE_OWN)
#define MTE_ON_PROTECTED	BIT(MTE_PROTECTED)
#define MTE_ON_ANON		BIT(MTE_ANON)
#define MTE_ON_SMALL		(BIT(MTE_ANON) | BIT(MTE_MEMFD))
#define MTE_ON_ALL		(MTE_ON_SMALL | BIT(MTE_THP) | \
				 MTE_IF(MTE_ABI_HUGETLB, BIT(MTE_HUGETLB)))
#define MTE_ON_ALL_SIZES	(MTE_ON_ALL | \
				 MTE_IF(MTE_ABI_HUGETLB, BIT(MTE_HUGETLB_CONT)))
#define MTE_ON_OPTIONAL		(MTE_IF(MTE_ABI_HUGETLB, BIT(MTE_SHARED_HUGETLB)) | \
				 MTE_IF(MTE_ABI_PRIVATE_FILE, BIT(MTE_PRIVATE_FILE)))

struct mte_case {
	const char *property;
	void (*run)(const struct mte_case *c);
	/* The kinds of memory on which it is run, one after the other */
	unsigned int on;
	/* At the case's disposal, e.g. a size or a direction */
	unsigned long arg;
	/* The kind of memory of this run */
	enum mte_backing backing;
};

/*
 * Run the cases on each kind of memory and report each run in KTAP. Where KVM is
 * in protected mode and has no MTE, only those run that ask for it, see
 * MTE_ON_PROTECTED.
 */
void mte_run_cases(const struct mte_case *cases, unsigned int nr) __noreturn;
const char *mte_backing_name(enum mte_backing backing);

/* Record a failure, with its reason, unless @ok; the case goes on. */
bool mte_expect(bool ok, const char *fmt, ...) __printf(2, 3);
/* Expect an ioctl to have returned @expected, where -errno is an error. */
bool mte_expect_return(long ret, long expected, const char *what);
/* End the case: something that it needs is not there. */
void mte_skip(const char *fmt, ...) __printf(1, 2) __noreturn;
/* End the case: something that has to work did not. */
void mte_die(const char *fmt, ...) __printf(1, 2) __noreturn;

/*
 * End this run of the case: by bad luck it proved nothing. It is skipped if
 * that happens several times in a row.
 */
void mte_run_again(const char *fmt, ...) __printf(1, 2) __noreturn;

/* Where the guest starts, and its exception vectors: for the library itself */
void mte_guest_entry(void);
void mte_guest_vectors(void);

/* A VM whose guest, if it has MTE, can use STG and LDG. */
struct mte_vm *mte_vm_create(bool mte);
/* Add the test memory, not touched by anyone yet, or skip the case. */
void mte_vm_add_memory(struct mte_vm *m, enum mte_backing backing, size_t size);
/*
 * Both, with MTE. MTE_DIRTY: mte_dirty_free_memory() first, and the tags of
 * mte_tag_program_memory(). MTE_TOUCHED: the VMM has touched the memory.
 * MTE_MISALIGNED: the IPAs are no more aligned to the memory than its base pages are,
 * and nothing can be mapped in blocks.
 */
#define MTE_DIRTY		1
#define MTE_TOUCHED		2
#define MTE_MISALIGNED		4
struct mte_vm *mte_vm_create_on(enum mte_backing backing, size_t size, unsigned int flags);
/*
 * Added to a pattern: only every other run of 2^shift granules, from the first
 * or from the second one on, has the pattern's tags. The others have zeros.
 */
#define MTE_STRIPES(shift, from_second) \
	(1UL << 63 | (u64)!!(from_second) << 62 | (u64)(shift) << 56)

static inline bool mte_between_stripes(u64 pattern, u64 granule)
{
	u64 run = granule >> ((pattern >> 56) & 0x3f);

	return (pattern >> 63) && ((run ^ (pattern >> 62)) & 1);
}

/*
 * The tag of granule number @granule in the pattern @pattern. A pattern below
 * 16 is that tag everywhere, any other one a different tag at each granule.
 */
static inline u8 mte_pattern_tag(u64 pattern, u64 granule)
{
	u64 x;

	if (pattern < 16)
		return pattern;
	if (mte_between_stripes(pattern, granule))
		return 0;

	x = (pattern ^ granule) * 0xd6e8feb86659fd93UL;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93UL;

	return x >> 60;
}

#define MTE_ALL_ZERO		0UL
/* The tag left behind in free memory by mte_dirty_free_memory() */
#define MTE_STALE		0xbUL

void mte_fill_pattern(u8 *tags, size_t nr, u64 pattern);

/*
 * COPY_TAGS: what the ioctl returned, or -errno.
 */
long mte_copy(struct mte_vm *m, struct kvm_arm_copy_mte_tags *args);
long mte_write_tags(struct mte_vm *m, u64 ipa, const u8 *tags, size_t length);
long mte_read_tags(struct mte_vm *m, u64 ipa, u8 *tags, size_t length);
/* Write @pattern, counted from the start of the test memory, or die. */
void mte_write_pattern(struct mte_vm *m, u64 ipa, size_t length, u64 pattern);
/* Expect @pattern in what the ioctl reads. */
bool mte_expect_ioctl_reads(struct mte_vm *m, u64 ipa, size_t length,
			    u64 pattern, const char *when);

/*
 * Run in the guest. They may fault the memory in; mte_guest_load() and
 * mte_guest_store() touch one word of each page.
 */
void mte_guest_load(struct mte_vm *m, u64 ipa, size_t length);
void mte_guest_store(struct mte_vm *m, u64 ipa, size_t length);
void mte_guest_set_pattern(struct mte_vm *m, u64 ipa, size_t length, u64 pattern);
/* Number of granules that do not have the tag that @pattern gives them. */
u64 mte_guest_mismatches(struct mte_vm *m, u64 ipa, size_t length, u64 pattern);
/* Expect @pattern in what the guest's LDG sees. */
bool mte_expect_guest_sees(struct mte_vm *m, u64 ipa, size_t length, u64 pattern, const char *when);

/* The same of both */
void mte_expect_tags(struct mte_vm *m, u64 ipa, size_t length, u64 pattern, const char *when);

/*
 * Leave the tag MTE_STALE in much of the host's free memory, so that tags that the
 * kernel did not initialise show it.
 */
void mte_dirty_free_memory(void);
/* Run again, unless test memory that is to be of huge pages starts with one. */
void mte_need_huge_page(struct mte_vm *m);
/*
 * Give the memory of the test program and of the stage-1 tables tags, of zero,
 * so that the guest's use of it initialises nothing.
 */
void mte_tag_program_memory(struct mte_vm *m);
/* Have the VMM touch @length bytes: pages there, but not tagged. */
void mte_vmm_touch(struct mte_vm *m, size_t length);
/* Have it set tags, as if @addr, mapped with PROT_MTE, was memory at @ipa. */
void mte_vmm_set_pattern(void *addr, u64 ipa, size_t length, u64 pattern);
/* The number of tags that are not as mte_vmm_set_pattern() would set them */
u64 mte_vmm_mismatches(const void *addr, u64 ipa, size_t length, u64 pattern);
/* A new file whose pages must not have tags, open for reading and writing */
int mte_open_file(size_t size);
/* Free memory of the machine in bytes */
size_t mte_free_memory(void);
/* Whether the case may have so much memory; skip it if not. */
bool mte_may_have(size_t size);
void mte_need_memory(size_t size);
/* @size readable and writable bytes that end at an inaccessible page. */
u8 *mte_alloc_before_fault(size_t size);

/*
 * What happens to a guest's memory
 */

/* Remove the VM and unmap the test memory. */
void mte_vm_destroy(struct mte_vm *m);
/* Change the test memory's slot; no size deletes it. */
void mte_vm_set_slot(struct mte_vm *m, unsigned int flags, size_t size);
void mte_vm_log_dirty_pages(struct mte_vm *m, bool on);

/* The bytes that one page of this backing has. */
size_t mte_unit(enum mte_backing backing);
/* The smallest size of hugetlb pages above @size; 0 if there is none */
size_t mte_hugetlb_size(size_t size);
/* Let as many hugetlb pages again as the test memory has be in the pool. */
void mte_vm_spare_huge_pages(struct mte_vm *m);

/* The VMM's pages: the page frame's number (0: none), flags of that page. */
u64 mte_pfn(const void *addr);
bool mte_in_huge_page(const void *addr);
bool mte_is_zero_page(const void *addr);
/* PG_mte_tagged */
bool mte_is_flagged(const void *addr);

/* Have swap space, on a compressed RAM disk, to the end of the case. */
void mte_need_swap(void);
void mte_swap_off(void);
/* Swap out all of the VMM's range. */
void mte_page_out(void *addr, size_t length);
/*
 * Migrate the VMM's page. Without CONFIG_HWPOISON_INJECT that costs the old page frame
 * for good: skips the case unless MTE_TEST_SOFT_OFFLINE is set in the environment.
 */
void mte_migrate_page(void *addr);

/* A number in a file of procfs or sysfs; what it was is put back at the end. */
void mte_set_tunable(const char *path, unsigned long value);
unsigned long mte_tunable(const char *path);

/*
 * Remember the page frames of this memory of the VMM, too; returns how many of its
 * pages have a frame that is remembered.
 */
void mte_remember_frames(const void *addr, size_t size);
size_t mte_remembered_frames(const void *addr, size_t size);

/*
 * Count the pages that still have the stale tag when the kernel comes to clear
 * them: a test that there is none to be seen wants some. The end of the count
 * runs the case again if there was none and all is well. Only race_window.ko
 * can look; without it the pages of the test memory count that
 * mte_dirty_free_memory() has had.
 */
void mte_begin_counting_stale_pages(void);
void mte_end_counting_stale_pages(struct mte_vm *m);

/*
 * Lines that begin with @what, have @about in them, and are printed by the kernel
 * between the two fail the case. @once: also those that were printed before and are
 * only once. The first one returns whether KASAN has reported something before.
 */
bool mte_begin_watching_log(bool once);
void mte_end_watching_log(const char *what, const char *about);
/* Whether the kernel has this function */
bool mte_kernel_has(const char *symbol);

/*
 * Have the guest load from each page of the test memory. Run the case again if the
 * number of exits shows that it was not mapped in blocks, or in pages, as wanted.
 */
void mte_need_blocks(struct mte_vm *m, bool blocks);

/*
 * A second thread on a CPU of its own that does one thing whenever told to; the
 * caller keeps the other CPU. Who is held by race_window.ko keeps the CPU.
 */
struct mte_helper {
	void (*work)(struct mte_helper *h);
	/* At the work's disposal */
	struct mte_vm *m;
	u64 ipa, arg;
	char *addr;
	size_t size;
	u8 tags[MTE_MAX_TAGS];
	long ret;
	/* Pages that had stale tags in mte_race() */
	unsigned long stale;
	/* The thread's id, once it is ready */
	pid_t tid;
	/* For the library itself */
	pthread_t thread;
	int step;
	int done;
	bool stop;
};

void mte_helper_start(struct mte_helper *h);
void mte_helper_go(struct mte_helper *h);
void mte_helper_wait(struct mte_helper *h);
void mte_helper_end(struct mte_helper *h);
/*
 * Have the helper do its work, held as it enters @function of the kernel, and do
 * something meanwhile. Returns whether it was held. Wants race_window.ko.
 */
bool mte_race(struct mte_helper *h, const char *function, void (*meanwhile)(struct mte_helper *h));

/*
 * For tests of the API itself, and for guests that are stopped half-way
 */

/* kvm-arm.mode=protected */
bool mte_kvm_is_protected(void);

/* Both return 0 or -errno. No size deletes the slot. */
static inline int mte_enable(struct kvm_vm *vm)
{
	return __vm_enable_cap(vm, KVM_CAP_ARM_MTE, 0) ? -errno : 0;
}

static inline int mte_set_slot(struct kvm_vm *vm, unsigned int slot, unsigned int flags,
			       u64 ipa, void *mem, size_t size)
{
	return __vm_set_user_memory_region(vm, slot, flags, ipa, size, mem) ? -errno : 0;
}

/* A userfaultfd that waits for the first touch of these pages */
int mte_open_userfaultfd(void *addr, size_t size);
/* Wait for that; returns where, or NULL. */
void *mte_await_userfault(int uffd, int timeout_ms);
/* Let a page be there. */
void mte_serve_page(int uffd, void *page, const void *content);

/* Use @mem as the test memory. Returns 0 or -errno. */
long mte_vm_add_mapping(struct mte_vm *m, void *mem, size_t size);
/* The memory that holds the program, its stack and the stage-1 tables */
void *mte_vm_program_memory(struct mte_vm *m, size_t *size);
/*
 * A guest's function may report a value, any number of times. The host goes on
 * with mte_guest_run(), as it may after an error that it has removed the cause
 * of.
 */
struct mte_stop {
	enum {
		MTE_RETURNED,	/* value: what the function returned */
		MTE_REPORTED,	/* value: what it reported */
		MTE_EXCEPTION,	/* value: ESR_EL1 */
		MTE_RUN_FAILED,	/* value: errno of KVM_RUN */
	} why;
	u64 value;
};

typedef u64 (*mte_guest_function)(u64, u64, u64, u64);

void mte_guest_start(struct mte_vm *m, mte_guest_function function, u64 arg0,
		     u64 arg1, u64 arg2, u64 arg3);
struct mte_stop mte_guest_run(struct mte_vm *m);
/* Expect KVM_RUN to have failed with @error, or the function to have returned if that is 0. */
bool mte_expect_stop(struct mte_stop stop, int error, const char *when);
/* End the case because of a stop that nothing expects. */
void mte_die_of_stop(struct mte_stop stop, const char *when) __noreturn;
/*
 * Call a function that may take an exception, of which nothing is left
 * afterwards. @pstate, if not NULL, is what the exception handler ran with.
 */
struct mte_stop mte_guest_try(struct mte_vm *m, mte_guest_function function,
			      u64 arg0, u64 arg1, u64 *pstate);

/* For the guest's functions */
static inline void mte_guest_report(u64 value)
{
	u64 doorbell;

	asm volatile("mrs	%0, tpidr_el1\n"
		     "str	%1, [%0, #16]"
		     : "=&r" (doorbell) : "r" (value) : "memory");
}

/* STG and LDG, encoded: the library is for assemblers that do not know them, too. */
static inline void mte_guest_store_tag(u64 addr, u64 tag)
{
	register u64 x0 asm("x0") = tag << 56;
	register u64 x1 asm("x1") = addr;

	asm volatile(".inst 0xd9200820" : : "r" (x0), "r" (x1) : "memory");
}

static inline u64 mte_guest_load_tag(u64 addr)
{
	register u64 x0 asm("x0") = 0;
	register u64 x1 asm("x1") = addr;

	asm volatile(".inst 0xd9600020" : "+r" (x0) : "r" (x1) : "memory");

	return (x0 >> 56) & 0xf;
}

#endif /* SELFTEST_KVM_MTE_H */
