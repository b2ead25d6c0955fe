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

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <linux/bits.h>
#include <linux/compiler.h>
#include <linux/types.h>

#define MTE_PAGE		4096UL
#define MTE_GRANULE		16UL
#define MTE_GRANULES_PER_PAGE	(MTE_PAGE / MTE_GRANULE)
#define MTE_BLOCK		(2UL << 20)

/* The ABI, spelt out: the headers of a tree may not have it yet. */
struct mte_copy_args {
	__u64 guest_ipa;
	__u64 length;
	void *addr;
	__u64 flags;
	__u64 reserved[2];
};

#define MTE_COPY_TAGS		_IOR(0xAE, 0xb4, struct mte_copy_args)
#define MTE_TO_GUEST		0UL
#define MTE_FROM_GUEST		1UL

enum mte_backing {
	MTE_ANON,	/* private anonymous memory, base pages only */
	MTE_THP,	/* the same, as transparent huge pages */
	MTE_MEMFD,	/* shared memfd */
	MTE_HUGETLB,	/* private 2 MiB hugetlb pages fresh from the buddy allocator */
};

/*
 * Test memory. Its guest virtual address is its IPA. It starts at 4 GiB; what
 * follows it is a hole.
 */
#define MTE_REGION_IPA		(4UL << 30)
/* A second slot on the same memory can be put here. */
#define MTE_ALIAS_IPA		(8UL << 30)

struct mte_vm;

#define MTE_ON_ANON		BIT(MTE_ANON)
#define MTE_ON_SMALL		(BIT(MTE_ANON) | BIT(MTE_MEMFD))
#define MTE_ON_ALL		(MTE_ON_SMALL | BIT(MTE_THP) | BIT(MTE_HUGETLB))

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

/* Run the cases on each kind of memory and report each run in KTAP. */
void mte_run_cases(const struct mte_case *cases, unsigned int nr)
	__noreturn;
const char *mte_backing_name(enum mte_backing backing);

/* Record a failure, with its reason, unless @ok; the case goes on. */
bool mte_expect(bool ok, const char *fmt, ...)
	__printf(2, 3);
/* End the case: something that it needs is not there. */
void mte_skip(const char *fmt, ...)
	__printf(1, 2) __noreturn;
/* End the case: something that has to work did not. */
void mte_die(const char *fmt, ...)
	__printf(1, 2) __noreturn;

/*
 * End this run of the case: by bad luck it proved nothing. It fails if that
 * happens several times in a row.
 */
void mte_run_again(const char *fmt, ...)
	__printf(1, 2) __noreturn;

/* Where the guest starts, and its exception vectors: for the library itself */
void mte_guest_entry(void);
void mte_guest_vectors(void);

/* A VM whose guest, if it has MTE, can use STG and LDG. */
struct mte_vm *mte_vm_create(bool mte);
/* Add the test memory, not touched by anyone yet, or skip the case. */
void mte_vm_add_memory(struct mte_vm *m, enum mte_backing backing, size_t size);
/* Map @size bytes of the test memory read-only in a second slot. */
void mte_vm_add_read_only_alias(struct mte_vm *m, size_t size);
/* The VMM's own address for the test memory. */
char *mte_vm_hva(struct mte_vm *m);

/*
 * The tag of granule number @granule in the pattern @pattern. A pattern below
 * 16 is that tag everywhere, any other one a different tag at each granule.
 */
static inline u8 mte_pattern_tag(u64 pattern, u64 granule)
{
	u64 x;

	if (pattern < 16)
		return pattern;

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
long mte_copy(struct mte_vm *m, struct mte_copy_args *args);
long mte_write_tags(struct mte_vm *m, u64 ipa, const u8 *tags,
		    size_t length);
long mte_read_tags(struct mte_vm *m, u64 ipa, u8 *tags,
		   size_t length);
/* Write @pattern, counted from the start of the test memory, or die. */
void mte_write_pattern(struct mte_vm *m, u64 ipa, size_t length,
		       u64 pattern);
/* Expect @pattern in what the ioctl reads. */
bool mte_expect_ioctl_reads(struct mte_vm *m, u64 ipa, size_t length,
			    u64 pattern, const char *when);

/*
 * Run in the guest. They may fault the memory in; mte_guest_load() and
 * mte_guest_store() touch one word of each page.
 */
void mte_guest_load(struct mte_vm *m, u64 ipa, size_t length);
void mte_guest_store(struct mte_vm *m, u64 ipa, size_t length);
void mte_guest_set_pattern(struct mte_vm *m, u64 ipa, size_t length,
			   u64 pattern);
/* Number of granules that do not have the tag that @pattern gives them. */
u64 mte_guest_mismatches(struct mte_vm *m, u64 ipa, size_t length,
			 u64 pattern);
/* Expect @pattern in what the guest's LDG sees. */
bool mte_expect_guest_sees(struct mte_vm *m, u64 ipa, size_t length,
			   u64 pattern, const char *when);

/*
 * Leave the tag MTE_STALE in much of the host's free memory, so that whoever
 * gets to see tags that the kernel did not initialise sees that one.
 */
void mte_dirty_free_memory(void);
/* Is the start of the test memory a huge page now, as asked for? */
bool mte_is_huge(struct mte_vm *m);
/*
 * Give the memory of the test program and of the stage-1 tables tags, of zero,
 * so that the guest's use of it initialises nothing.
 */
void mte_tag_program_memory(struct mte_vm *m);
/* Have the VMM touch @length bytes: pages there, but not tagged. */
void mte_vmm_touch(struct mte_vm *m, size_t length);
/* @size readable and writable bytes that end at an inaccessible page. */
u8 *mte_alloc_before_fault(size_t size);

pid_t mte_thread_id(void);

/*
 * race_window.ko: hold the task @tid (0: any) the first time that it enters
 * @function from now on. All its entries are counted.
 */
bool race_window_loaded(void);
bool race_window_arm(const char *function, pid_t tid, unsigned int delay_us);
void race_window_disarm(void);
void race_window_release(void);
unsigned long race_window_hits(void);
unsigned long race_window_early(void);
unsigned long race_window_stale(void);
bool race_window_held(void);
/* Wait until the hit count is above @hits and somebody is held. */
bool race_window_wait_open(unsigned long hits, unsigned int timeout_ms);

#endif /* SELFTEST_KVM_MTE_H */
