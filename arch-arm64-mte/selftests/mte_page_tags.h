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
#include <signal.h>
#include <linux/mman.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kselftest.h"
#include "mte_race_window.h"
#include "mte_zram.h"

#define PLAIN		(PROT_READ | PROT_WRITE)
#define TAGGED		(PLAIN | PROT_MTE)
#define CLOSED		(PROT_NONE | PROT_MTE)

#define GRANULE		16UL

static inline size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

static inline size_t granules_per_page(void)
{
	return page_size() / GRANULE;
}

/*
 * The program: a table of tests. Each runs in a process of its own, which ends with it: no
 * test cleans up after itself.
 */

/* The kinds of memory that can have tags; the last one is of smaller huge pages. */
enum backing_type { ANON, THP, SHARED, HUGETLB, HUGETLB_CONT, NR_BACKINGS };

#define ON(backing)	(1U << (backing))
#define ON_HUGETLB	(ON(HUGETLB) | ON(HUGETLB_CONT))
#define ON_ALL		(ON(ANON) | ON(THP) | ON(SHARED) | ON_HUGETLB)

struct test {
	const char *property;
	/* Returns if the property holds */
	void (*run)(const struct test *test);
	/* What kinds of memory to run it on, a line each; 0: it has its own */
	unsigned int on;
	const void *arg;
	enum backing_type backing;
};

/*
 * Run all tests and end. @set_up, if given, may end like a test, and so all of them do;
 * @tear_down, if given, follows in any case.
 */
void run_tests(const struct test *tests, size_t nr, void (*set_up)(void), void (*tear_down)(void));

/* The property that the test is for: its end as a failure if it does not hold */
void __printf(2, 3) expect(bool ok, const char *fmt, ...);

/*
 * What has to work for that. If it does not, the test is skipped where the machine lacks
 * something, such as memory or privileges, and fails otherwise; errno tells.
 */
void __printf(2, 3) must(bool ok, const char *fmt, ...);

/* The test cannot be run here. */
void __printf(1, 2) __noreturn skip(const char *fmt, ...);
void skip_if(const char *why);

/* It proved nothing, by bad luck: it is run again, and skipped if it goes on like that. */
void __printf(1, 2) __noreturn try_again(const char *fmt, ...);

/* Children end like the test, and the test ends like a child that it waits for. */
pid_t start_child(void);
void wait_for(pid_t child);

/* The race_window module, and a second CPU; the test itself runs on the first. */
void need_race_window(void);
void run_on_cpu(int nth);

/* Change a setting until the program ends. Returns false if it cannot be changed. */
bool change(const char *path, const char *text);

/*
 * Pages and tags
 */

/* Read a byte, for the page fault's sake; write it back, likewise */
void touch(const char *addr);
void touch_for_write(char *addr);

/* The allocation tag of the granule at @addr; not there without PROT_MTE */
void set_tag(void *addr, unsigned char tag);
unsigned char get_tag(const void *addr);

/* Random tags, none of them zero: a granule that lost its tag always shows */
void make_random_tags(unsigned char *tags, size_t granules);
void write_tags(char *addr, const unsigned char *tags, size_t granules);
size_t count_wrong_tags(const char *addr, const unsigned char *tags, size_t granules);
size_t count_nonzero_tags(const char *addr, size_t granules);

/* /proc/kpageflags of the page at @addr; 0 if it is not there, or cannot be seen */
#define KPAGEFLAGS	"/proc/kpageflags"
#define KPF_TAIL	0x10000UL
#define KPF_LARGE	0x400000UL	/* KPF_THP */
#define KPF_ZERO	0x1000000UL
#define KPF_MTE		0x20000000000UL	/* KPF_ARCH_2, that is PG_mte_tagged */

unsigned long page_flags(const void *addr);
bool is_thp_tail(const char *page);
void need_page_flags(void);

/* The page frame, or the place in swap, of the page at @addr; 0 if that cannot be seen */
unsigned long page_frame(const void *addr);
size_t count_swapped_pages(const char *addr, size_t pages);

/* From now on the pages of process @pid are what is looked at. */
void look_at_pages_of(pid_t pid);

/*
 * Memory
 */

#define THP_SETTINGS	"/sys/kernel/mm/transparent_hugepage/"

/* A setting of the huge pages of that size, in memory that the next call overwrites */
const char *thp_setting(size_t size, const char *name);

/* The size of a transparent huge page; 0 if there are none to be had */
size_t thp_size(void);
bool thp_is_too_large(void);
void allow_huge_memfds(void);

/* Collapse the pages there into a huge page, or try again. */
void collapse(char *mem, size_t size);
void need_collapse(void);

/* Try to have so many free pages in each hugetlb pool. */
void grow_hugetlb_pools(long pages);

/* Why this kind of memory cannot be had, or NULL */
const char *backing_missing(enum backing_type backing);

/*
 * Private memory that a huge page of @size bytes fits into, with address space around it
 * that keeps it from being merged with anything
 */
char *reserve_aligned(size_t size, int prot);

/* Memory with tags, and what it must contain; processes share what is known of it */
struct area {
	char *mem;
	size_t size, granules;
	unsigned char *tags;
	enum backing_type backing;
	int fd;			/* of shared memory, else -1 */
};

/*
 * Map memory without touching it; anonymous and shared memory has @pages small pages, the
 * others are one huge page.
 */
void area_map(struct area *a, enum backing_type backing, size_t pages, int prot);
void area_fill_data(struct area *a);
void area_fill_tags(struct area *a);
/* All of that */
void area_create(struct area *a, enum backing_type backing, size_t pages);

/* No two words are the same, here or in another area of the program */
unsigned long area_word(const struct area *a, size_t offset);

/* Memory that is in use, and shall be a huge page, must be one, or it is tried again. */
void area_must_be_huge(const struct area *a);

/* Every tag and all data must be there. Needs PROT_MTE */
void area_expect_intact(const struct area *a, const char *when);

void area_protect(const struct area *a, int prot);

/* Have all of it in swap, or try again; how many pages are there */
void area_page_out(const struct area *a);
size_t area_pages_out(const struct area *a);

/*
 * Evidence
 */

/*
 * Leave free memory behind whose tags are @tag: some of the hugetlb pool, or plenty of what
 * the other kinds of memory are made of. Who gets a page of it and sees @tag sees tags that
 * were not initialised for it.
 */
void dirty_free_memory(enum backing_type backing, unsigned char tag);

/*
 * Between these two, thread @tid (0: any) made the kernel initialise the tags of pages;
 * some must have had other tags, or there was nothing to see and the test is tried again.
 * Without the race_window module the pages of @mem must be in frames that were dirty.
 */
void begin_evidence(pid_t tid);
void end_evidence(const char *mem, size_t size);
void need_dirty_frames(const char *mem, size_t size);

#endif /* _MTE_PAGE_TAGS_H */
