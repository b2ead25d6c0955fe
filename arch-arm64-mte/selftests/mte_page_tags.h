/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Allocation tags of whole pages, seen from user space
 *
 * Everything here works with untagged pointers: STG and LDG are never checked
 * against the pointer's tag. Data accesses are, so that the tests run with tag
 * checks off (the state of a new process) unless they say otherwise.
 */
#ifndef _MTE_PAGE_TAGS_H
#define _MTE_PAGE_TAGS_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "kselftest.h"

#define BIT_OF_LONG(n)	(1UL << (n))

#ifndef HWCAP2_MTE
#define HWCAP2_MTE	BIT_OF_LONG(18)
#endif
#ifndef PROT_MTE
#define PROT_MTE	0x20
#endif
#ifndef MADV_COLD
#define MADV_COLD	20
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT	21
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#ifndef ARRAY_SIZE
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#endif

#define PLAIN		(PROT_READ | PROT_WRITE)
#define TAGGED		(PLAIN | PROT_MTE)

#define GRANULE		16UL
#define TAG_SHIFT	56

static inline size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

static inline size_t granules_per_page(void)
{
	return page_size() / GRANULE;
}

static inline bool cpu_has_mte(void)
{
	return getauxval(AT_HWCAP2) & HWCAP2_MTE;
}

/* Read a byte, for the page fault's sake */
static inline void touch(const char *addr)
{
	unsigned int byte;

	asm volatile("ldrb %w0, [%1]" : "=r"(byte) : "r"(addr) : "memory");
}

/* Set the allocation tag of the granule at @addr; no effect without PROT_MTE */
static inline void set_tag(void *addr, unsigned char tag)
{
	unsigned long p = (unsigned long)addr | (unsigned long)tag << TAG_SHIFT;

	asm volatile(".arch armv8.5-a+memtag\n"
		     "stg %0, [%0]" : : "r"(p) : "memory");
}

/* The allocation tag of the granule at @addr; 0 without PROT_MTE */
static inline unsigned char get_tag(const void *addr)
{
	unsigned long p = (unsigned long)addr;

	asm volatile(".arch armv8.5-a+memtag\n"
		     "ldg %0, [%0]" : "+r"(p) : : "memory");
	return p >> TAG_SHIFT & 0xf;
}

/* Random tags, none of them zero: a granule that lost its tag always shows */
static inline void make_random_tags(unsigned char *tags, size_t granules)
{
	size_t i;

	for (i = 0; i < granules; i++)
		tags[i] = 1 + rand() % 15;
}

static inline void write_tags(char *addr, const unsigned char *tags, size_t granules)
{
	size_t i;

	for (i = 0; i < granules; i++)
		set_tag(addr + i * GRANULE, tags[i]);
}

/* How many granules from @addr do not have the tags @tags */
static inline size_t count_wrong_tags(const char *addr, const unsigned char *tags,
				      size_t granules)
{
	size_t i, wrong = 0;

	for (i = 0; i < granules; i++)
		wrong += get_tag(addr + i * GRANULE) != tags[i];
	return wrong;
}

/* How many granules from @addr have a tag other than zero */
static inline size_t count_nonzero_tags(const char *addr, size_t granules)
{
	size_t i, nonzero = 0;

	for (i = 0; i < granules; i++)
		nonzero += get_tag(addr + i * GRANULE) != 0;
	return nonzero;
}

/*
 * Leave @size bytes of free memory behind whose tags are @tag. Whoever gets one
 * of these pages and sees @tag sees tags that were not initialised for it.
 */
static inline bool dirty_free_memory(size_t size, unsigned char tag)
{
	char *p = mmap(NULL, size, TAGGED, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t i;

	if (p == MAP_FAILED)
		return false;
	/* Free huge pages are the first choice for the next huge page. */
	madvise(p, size / 2, MADV_HUGEPAGE);
	for (i = 0; i < size; i += GRANULE)
		set_tag(p + i, tag);
	munmap(p, size);
	return true;
}

/*
 * The pagemap entry of the page at @addr; 0 if there is none or it cannot be
 * read. The page frame number in it is 0 without CAP_SYS_ADMIN.
 */
#define PAGEMAP		"/proc/self/pagemap"
#define PAGEMAP_PRESENT	BIT_OF_LONG(63)
#define PAGEMAP_SWAPPED	BIT_OF_LONG(62)
#define PAGEMAP_PFN	(BIT_OF_LONG(55) - 1)

static inline unsigned long pagemap_entry(const void *addr)
{
	off_t offset = (unsigned long)addr / page_size() * sizeof(unsigned long);
	unsigned long entry = 0;
	int fd = open(PAGEMAP, O_RDONLY);

	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry), offset) != sizeof(entry))
		entry = 0;
	close(fd);
	return entry;
}

static inline size_t count_swapped_pages(const char *addr, size_t pages)
{
	size_t i, swapped = 0;

	for (i = 0; i < pages; i++)
		swapped += !!(pagemap_entry(addr + i * page_size()) &
			      PAGEMAP_SWAPPED);
	return swapped;
}

/* The /proc/kpageflags word of the page at @addr; 0 if it cannot be read */
#define KPAGEFLAGS	"/proc/kpageflags"
#define KPAGEFLAGS_TAIL	BIT_OF_LONG(16)
#define KPAGEFLAGS_THP	BIT_OF_LONG(22)
#define KPAGEFLAGS_MTE	BIT_OF_LONG(41)	/* KPF_ARCH_2, that is PG_mte_tagged */

static inline unsigned long page_flags(const void *addr)
{
	unsigned long entry = pagemap_entry(addr), flags = 0;
	int fd;

	if (!(entry & PAGEMAP_PRESENT) || !(entry & PAGEMAP_PFN))
		return 0;
	fd = open(KPAGEFLAGS, O_RDONLY);
	if (fd < 0)
		return 0;
	if (pread(fd, &flags, sizeof(flags),
		  (entry & PAGEMAP_PFN) * sizeof(flags)) != sizeof(flags))
		flags = 0;
	close(fd);
	return flags;
}

/* Ends the program; one that could test nothing says so in its exit code */
static inline void finish(void)
{
	if (ksft_get_fail_cnt() || ksft_test_num() != ksft_plan)
		ksft_exit_fail();
	if (!ksft_get_pass_cnt() && ksft_get_xskip_cnt()) {
		ksft_print_cnts();
		exit(KSFT_SKIP);
	}
	ksft_exit_pass();
}

#endif /* _MTE_PAGE_TAGS_H */
