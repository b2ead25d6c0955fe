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

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <asm/hwcap.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kselftest.h"
#include "mte_race_window.h"

#define BIT_OF_LONG(n)	(1UL << (n))

#define PLAIN		(PROT_READ | PROT_WRITE)
#define TAGGED		(PLAIN | PROT_MTE)
#define CLOSED		(PROT_NONE | PROT_MTE)

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

/* The number in a file of proc or sysfs; -1 if it cannot be read */
static inline long read_number(const char *path)
{
	FILE *f = fopen(path, "r");
	long value = -1;

	if (!f)
		return -1;
	if (fscanf(f, "%ld", &value) != 1)
		value = -1;
	fclose(f);
	return value;
}

static inline bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok;
}

/*
 * A line of a file; of a choice of words the one in brackets. It is in memory that
 * the next call overwrites, and empty if the file cannot be read.
 */
static inline const char *read_setting(const char *path)
{
	static char line[256];
	FILE *f = fopen(path, "r");
	char *start;

	if (!f || !fgets(line, sizeof(line), f))
		line[0] = '\0';
	if (f)
		fclose(f);
	start = strchr(line, '[');
	start = start ? start + 1 : line;
	start[strcspn(start, "]\n")] = '\0';
	return start;
}

/* What all processes of the program share */
static struct {
	/* Why the test that runs proves nothing */
	const char *is_void;
	/* Settings of the machine as they were, to be put back at the end */
	struct {
		char path[128], was[256];
	} settings[16];
	size_t nr_settings;
} *shared;

/* Change a setting, until the program ends. Returns false if it cannot be changed. */
static inline bool change_setting(const char *path, const char *text)
{
	size_t i;

	for (i = 0; i < shared->nr_settings; i++)
		if (!strcmp(shared->settings[i].path, path))
			return write_text(path, text);
	if (i == ARRAY_SIZE(shared->settings))
		return false;
	snprintf(shared->settings[i].path, sizeof(shared->settings[i].path), "%s", path);
	snprintf(shared->settings[i].was, sizeof(shared->settings[i].was), "%s",
		 read_setting(path));
	shared->nr_settings++;
	return write_text(path, text);
}

static inline bool change_number(const char *path, unsigned long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", value);
	return change_setting(path, text);
}

static inline void restore_settings(void)
{
	size_t i = shared->nr_settings;

	while (i--)
		write_text(shared->settings[i].path,
			   shared->settings[i].was[0] ? shared->settings[i].was : "\n");
}

/* Read a byte, for the page fault's sake */
static inline void touch(const char *addr)
{
	unsigned int byte;

	asm volatile("ldrb %w0, [%1]" : "=r"(byte) : "r"(addr) : "memory");
}

/* Write a byte back, likewise */
static inline void touch_for_write(char *addr)
{
	unsigned int byte;

	asm volatile("ldrb %w0, [%1]\n"
		     "strb %w0, [%1]" : "=&r"(byte) : "r"(addr) : "memory");
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
 * The pagemap entry of the page at @addr; 0 if there is none or it cannot be
 * read. The page frame number in it is 0 without CAP_SYS_ADMIN.
 */
#define PAGEMAP		"/proc/self/pagemap"
#define PAGEMAP_PRESENT	BIT_OF_LONG(63)
#define PAGEMAP_SWAPPED	BIT_OF_LONG(62)
/* Where the page is, or its swap type and offset if it is swapped out */
#define PAGEMAP_PFN	(BIT_OF_LONG(55) - 1)

/* Files of somebody else's pages, opened with the privileges for it; -1: our own */
static int pagemap_fd = -1, kpageflags_fd = -1;

/* Entry @nr of a file that is open as @fd, or else is @path; 0 if it cannot be read */
static inline unsigned long read_entry(int fd, const char *path, unsigned long nr)
{
	int file = fd >= 0 ? fd : open(path, O_RDONLY);
	unsigned long entry = 0;

	if (file < 0)
		return 0;
	if (pread(file, &entry, sizeof(entry), nr * sizeof(entry)) != sizeof(entry))
		entry = 0;
	if (fd < 0)
		close(file);
	return entry;
}

static inline unsigned long pagemap_entry(const void *addr)
{
	return read_entry(pagemap_fd, PAGEMAP, (unsigned long)addr / page_size());
}

static inline unsigned long page_frame(const void *addr)
{
	return pagemap_entry(addr) & PAGEMAP_PFN;
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
#define KPAGEFLAGS_ZERO	BIT_OF_LONG(24)
#define KPAGEFLAGS_MTE	BIT_OF_LONG(41)	/* KPF_ARCH_2, that is PG_mte_tagged */

static inline unsigned long page_flags(const void *addr)
{
	unsigned long entry = pagemap_entry(addr);

	if (!(entry & PAGEMAP_PRESENT) || !(entry & PAGEMAP_PFN))
		return 0;
	return read_entry(kpageflags_fd, KPAGEFLAGS, entry & PAGEMAP_PFN);
}

/* From now on the pages of process @pid are what is looked at. */
static inline void look_at_pages_of(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	pagemap_fd = open(path, O_RDONLY);
	kpageflags_fd = open(KPAGEFLAGS, O_RDONLY);
}

#define THP_SETTINGS	"/sys/kernel/mm/transparent_hugepage/"
/* Of larger ones there are too few, and it takes long to look at their tags. */
#define MAX_THP_SIZE	(32UL << 20)

/* A setting of the huge pages of that size, in memory that the next call overwrites */
static inline const char *thp_setting(size_t size, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), THP_SETTINGS "hugepages-%zukB/%s",
		 size / 1024, name);
	return path;
}

/* Huge pages that a PMD maps are too large, and smaller ones have to do. */
static inline bool thp_is_too_large(void)
{
	return read_number(THP_SETTINGS "hpage_pmd_size") > (long)MAX_THP_SIZE;
}

/* The size of a transparent huge page; 0 if there are none to be had */
static inline size_t thp_size(void)
{
	long size = read_number(THP_SETTINGS "hpage_pmd_size");

	if (thp_is_too_large())
		return access(thp_setting(MAX_THP_SIZE, "enabled"), W_OK) ?
		       0 : MAX_THP_SIZE;
	if (!strcmp(read_setting(THP_SETTINGS "enabled"), "never"))
		return 0;
	return size > 0 ? size : 0;
}

/* Why pages cannot be collapsed into a huge page, or NULL */
static inline const char *collapse_missing(void)
{
	/* The advice is looked at before the length: an unknown one is EINVAL */
	if (madvise(NULL, 0, MADV_COLLAPSE))
		return "kernel without MADV_COLLAPSE";
	return thp_is_too_large() ? "huge pages are too large" : NULL;
}

/* Have huge pages in memfds that ask for them. */
static inline void allow_huge_memfds(void)
{
	change_setting(thp_is_too_large() ? thp_setting(MAX_THP_SIZE, "shmem_enabled") :
		       THP_SETTINGS "shmem_enabled", "advise");
}

static inline void allow_thp(void)
{
	if (thp_is_too_large())
		change_setting(thp_setting(MAX_THP_SIZE, "enabled"), "madvise");
}

static inline bool is_thp_tail(const char *page)
{
	unsigned long flags = page_flags(page);

	return (flags & KPAGEFLAGS_THP) && (flags & KPAGEFLAGS_TAIL);
}

/*
 * Private memory that a huge page of @size bytes fits into, with address space
 * around it that keeps it from being merged with anything. NULL on failure.
 * The other one gives it back.
 */
static inline char *reserve_aligned(size_t size, int prot)
{
	char *p = mmap(NULL, 4 * size, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	char *aligned;

	if (p == MAP_FAILED)
		return NULL;
	aligned = (char *)(((unsigned long)p + 2 * size - 1) & ~(size - 1));
	munmap(p, aligned - size - p);
	munmap(aligned + 2 * size, p + 2 * size - aligned);
	return mprotect(aligned, size, prot) ? NULL : aligned;
}

static inline void unreserve_aligned(char *p, size_t size)
{
	munmap(p - size, 3 * size);
}

/* The kinds of memory that can have tags */
enum backing_type { ANON, THP, SHARED, HUGETLB };

static inline const char *backing_name(enum backing_type backing)
{
	static const char * const names[] = {
		"anonymous memory", "a huge page", "a memfd", "hugetlb memory"
	};

	return names[backing];
}

/* Of 2M, which all have, in one entry of a page table or in several */
#define HUGETLB_POOL	"/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define NR_HUGEPAGES	HUGETLB_POOL "nr_hugepages"
#define FREE_HUGEPAGES	HUGETLB_POOL "free_hugepages"
#define HUGETLB_SIZE	(2UL << 20)
#define MAP_HUGETLB_2M	(MAP_HUGETLB | 21 << 26)

/* Have a hugetlb pool of at least @pages. */
static inline void grow_hugetlb_pool(long pages)
{
	long now = read_number(NR_HUGEPAGES);

	if (now >= 0 && now < pages)
		change_number(NR_HUGEPAGES, pages);
}

static inline const char *hugetlb_mte_missing(void)
{
	char *p;

	if (read_number(NR_HUGEPAGES) < 0)
		return "no hugetlb pages of 2M";
	p = mmap(NULL, HUGETLB_SIZE, TAGGED,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB_2M, -1, 0);
	if (p == MAP_FAILED)
		return errno == ENOMEM ? "no hugetlb pages" :
		       "kernel without PROT_MTE on hugetlb memory";
	munmap(p, HUGETLB_SIZE);
	return NULL;
}

/* A test that proves nothing by bad luck is run again, so many times at most. */
#define MAX_ATTEMPTS	8
#define PROVES_NOTHING	2

/* How many times this test has been run before */
static unsigned int test_attempt;

/* Whether this is the process of a test, or one that it has made */
static bool in_test;

/*
 * End this run of the test. If it goes on like this, the test is skipped.
 * Returns if there is no test to end.
 */
static inline void proves_nothing(const char *why)
{
	ksft_print_msg("%s\n", why);
	if (!in_test)
		return;
	shared->is_void = why;
	_exit(PROVES_NOTHING);
}

#define DIRTY_BYTES	((64UL << 20) + 2 * thp_size())

#define MAX_DIRTY_HUGETLB	16

/* The page frames that had these tags, in order */
static unsigned long *dirtied;
static size_t nr_dirtied;

static inline int compare_frames(const void *a, const void *b)
{
	unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;

	return x < y ? -1 : x > y;
}

/*
 * Leave free memory behind whose tags are @tag: some of the hugetlb pool, or
 * plenty of what the other kinds of memory are made of. Whoever gets a page of
 * it and sees @tag sees tags that were not initialised for it.
 */
static inline bool dirty_free_memory(enum backing_type backing,
				     unsigned char tag)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	size_t i, size = DIRTY_BYTES;
	char *p;

	if (backing == HUGETLB) {
		flags |= MAP_HUGETLB_2M;
		size = read_number(FREE_HUGEPAGES);
		/* Those come back first that were given back last. */
		size = (size < MAX_DIRTY_HUGETLB ? size : MAX_DIRTY_HUGETLB) * HUGETLB_SIZE;
	}
	p = mmap(NULL, size, TAGGED, flags, -1, 0);
	if (p == MAP_FAILED) {
		ksft_print_msg("cannot map memory to leave tags in: %s\n",
			       strerror(errno));
		return false;
	}
	/* Free huge pages are the first choice for the next huge page. */
	if (backing != HUGETLB)
		madvise(p, size / 2, MADV_HUGEPAGE);
	for (i = 0; i < size; i += GRANULE)
		set_tag(p + i, tag);
	nr_dirtied = size / page_size();
	dirtied = realloc(dirtied, nr_dirtied * sizeof(*dirtied));
	for (i = 0; i < nr_dirtied; i++)
		dirtied[i] = page_frame(p + i * page_size());
	qsort(dirtied, nr_dirtied, sizeof(*dirtied), compare_frames);
	return !munmap(p, size);
}

/*
 * How many of these pages are of the memory that dirty_free_memory() had last, and so
 * have its tags unless the kernel has cleared them; -1 if nobody may tell
 */
static inline long count_dirtied_pages(const char *mem, size_t size)
{
	unsigned long frame;
	long count = 0;
	size_t i;

	if (!nr_dirtied || !dirtied[nr_dirtied - 1])
		return -1;
	for (i = 0; i < size; i += page_size()) {
		frame = page_frame(mem + i);
		count += frame && bsearch(&frame, dirtied, nr_dirtied, sizeof(frame),
					  compare_frames);
	}
	return count;
}

static inline const char *backing_missing(enum backing_type backing)
{
	if (backing == THP && !thp_size())
		return "no transparent huge pages";
	if (backing == THP && access(KPAGEFLAGS, R_OK))
		return "cannot read " KPAGEFLAGS;
	if (backing == HUGETLB)
		return hugetlb_mte_missing();
	return NULL;
}

/* Memory with tags, and what it must contain */
struct area {
	char *mem;
	size_t size, granules;
	unsigned char *tags;
	enum backing_type backing;
	int fd;			/* of shared memory, else -1 */
};

/*
 * Map memory without touching it; anonymous and shared memory has @pages small
 * pages, the others are one huge page. Returns false on failure.
 */
static inline bool area_map(struct area *a, enum backing_type backing,
			    size_t pages, int prot)
{
	a->backing = backing;
	a->fd = -1;
	a->size = backing == THP ? thp_size() :
		  backing == HUGETLB ? HUGETLB_SIZE : pages * page_size();
	a->granules = a->size / GRANULE;
	a->tags = calloc(1, a->granules);

	switch (backing) {
	case ANON:
		a->mem = mmap(NULL, a->size, prot, MAP_PRIVATE | MAP_ANONYMOUS,
			      -1, 0);
		break;
	case THP:
		a->mem = reserve_aligned(a->size, prot);
		if (!a->mem || madvise(a->mem, a->size, MADV_HUGEPAGE))
			a->mem = MAP_FAILED;
		break;
	case SHARED:
		a->mem = MAP_FAILED;
		a->fd = memfd_create("mte_page_tags", 0);
		if (a->fd >= 0 && !ftruncate(a->fd, a->size))
			a->mem = mmap(NULL, a->size, prot, MAP_SHARED, a->fd, 0);
		break;
	case HUGETLB:
		a->mem = mmap(NULL, a->size, prot,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB_2M,
			      -1, 0);
		break;
	}
	if (a->mem != MAP_FAILED)
		return true;
	ksft_print_msg("cannot map %s: %s\n", backing_name(backing),
		       strerror(errno));
	return false;
}

static inline void area_unmap(struct area *a)
{
	if (a->backing == THP)
		unreserve_aligned(a->mem, a->size);
	else
		munmap(a->mem, a->size);
	if (a->fd >= 0)
		close(a->fd);
	free(a->tags);
}

/* No two words are the same, here or in another area of the program */
static inline unsigned long area_word(const struct area *a, size_t offset)
{
	return ~((unsigned long)a->mem + offset);
}

static inline void area_fill_data(struct area *a)
{
	size_t i;

	for (i = 0; i < a->size; i += sizeof(unsigned long))
		*(unsigned long *)(a->mem + i) = area_word(a, i);
}

/* Needs PROT_MTE */
static inline void area_fill_tags(struct area *a)
{
	make_random_tags(a->tags, a->granules);
	write_tags(a->mem, a->tags, a->granules);
}

/*
 * Memory that is in use, and shall be a huge page, must be one, or nothing that is
 * done to it means anything.
 */
static inline bool area_is_huge(const struct area *a)
{
	if (a->backing != THP || is_thp_tail(a->mem + a->size - page_size()))
		return true;
	proves_nothing("no huge page was allocated");
	return false;
}

/*
 * Map memory, fill it with data and random tags. Returns false on failure.
 */
static inline bool area_create(struct area *a, enum backing_type backing,
			       size_t pages)
{
	if (!area_map(a, backing, pages, TAGGED))
		return false;
	area_fill_data(a);
	area_fill_tags(a);
	return area_is_huge(a);
}

/* Is everything there? Needs PROT_MTE */
static inline bool area_intact(const struct area *a, const char *when)
{
	size_t tags = count_wrong_tags(a->mem, a->tags, a->granules);
	size_t i, data = 0;

	for (i = 0; i < a->size; i += sizeof(unsigned long))
		data += *(unsigned long *)(a->mem + i) != area_word(a, i);

	ksft_print_msg("%s: of %zu tags %zu are wrong, of %zu words %zu\n",
		       when, a->granules, tags,
		       a->size / sizeof(unsigned long), data);
	return !tags && !data;
}

static inline bool area_protect(const struct area *a, int prot)
{
	if (!mprotect(a->mem, a->size, prot))
		return true;
	ksft_print_msg("mprotect(%#x) of %s: %s\n", prot,
		       backing_name(a->backing), strerror(errno));
	return false;
}

/*
 * A page counts once it has left the swap cache, too, which mincore() tells.
 * The pagemap has no swap entries for shared memory.
 */
static inline size_t area_pages_out(const struct area *a)
{
	size_t i, out = 0, pages = a->size / page_size();
	unsigned char in[pages];

	if (a->backing != SHARED &&
	    count_swapped_pages(a->mem, pages) != pages)
		return 0;
	for (i = 0; i < pages; i++)
		if (pagemap_entry(a->mem + i * page_size()) & PAGEMAP_PRESENT)
			return 0;
	if (mincore(a->mem, a->size, in))
		return 0;
	for (i = 0; i < pages; i++)
		out += !(in[i] & 1);
	return out;
}

/* Have all of @a swapped out; some pages may be busy at first */
static inline bool area_page_out(const struct area *a)
{
	size_t out = 0, pages = a->size / page_size();
	int i;

	for (i = 0; i < 100; i++) {
		if (madvise(a->mem, a->size, MADV_PAGEOUT)) {
			ksft_print_msg("MADV_PAGEOUT: %s\n", strerror(errno));
			return false;
		}
		out = area_pages_out(a);
		if (out == pages)
			return true;
		usleep(10000);
	}
	ksft_print_msg("only %zu of %zu pages were swapped out\n", out, pages);
	proves_nothing("not all pages could be swapped out");
	return false;
}

/* How many of the pages of @a are in the same page frame as @frames says */
static inline size_t area_unmoved_pages(const struct area *a,
					const unsigned long *frames)
{
	size_t i, same = 0;

	for (i = 0; i < a->size / page_size(); i++)
		same += page_frame(a->mem + i * page_size()) == frames[i];
	return same;
}

/* Wait for a child; its exit code, or -1 if it did not end by itself */
static inline int child_exit_code(pid_t child)
{
	int status;

	if (child < 0)
		return -1;
	while (waitpid(child, &status, 0) != child)
		if (errno != EINTR)
			return -1;
	if (WIFSIGNALED(status))
		ksft_print_msg("process killed by signal %d\n",
			       WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* What proves nothing in a child does not in its parent. */
static inline bool child_succeeded(pid_t child)
{
	int code = child_exit_code(child);

	if (code == PROVES_NOTHING && in_test)
		_exit(code);
	return !code;
}

/* A property, and how to test it */
struct test {
	const char *property;
	/* Runs in a process of its own; whether the property holds */
	bool (*run)(const struct test *test);
	/* Why it cannot be tested here, or NULL; optional */
	const char *(*missing)(const struct test *test);
	enum backing_type backing;
	/* What else the two functions want to know */
	const void *arg;
};

/*
 * Whether there were stale tags that a test might have seen: which page frames
 * it gets is up to the allocator. @stale: how many pages had some as the module has
 * seen it; -1: there is none, the page frames of @mem have to tell. Does not return
 * if there were none.
 */
static inline bool had_stale_tags(long stale, const char *mem, size_t size)
{
	if (stale < 0)
		stale = count_dirtied_pages(mem, size);
	if (stale < 0)
		proves_nothing("page frame numbers are hidden");
	ksft_print_msg("%ld pages had stale tags\n", stale);
	if (!stale)
		proves_nothing("evidence void: no page had stale tags");
	return true;
}

/* The process of the test that runs, and the signal that wants us to stop */
static pid_t test_process;
static int test_stopped_by;

static inline void stop_test(int signal)
{
	test_stopped_by = signal;
	if (test_process > 0)
		kill(-test_process, SIGKILL);
}

/* Whoever stops us wants the system back as it was. */
static inline void set_stop_handler(void (*handler)(int signal))
{
	struct sigaction action = { .sa_handler = handler };

	sigaction(SIGHUP, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGPIPE, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

/* Returns the exit code of the test, -1 if it did not end by itself */
static inline int run_in_child(const struct test *test)
{
	int code = PROVES_NOTHING;
	pid_t child;

	for (test_attempt = 0; test_attempt < MAX_ATTEMPTS; test_attempt++) {
		child = fork();
		/* With all that it starts it can be stopped at once. */
		if (child >= 0)
			setpgid(child, 0);
		if (!child) {
			set_stop_handler(SIG_DFL);
			in_test = true;
			_exit(!test->run(test));
		}
		test_process = child;
		if (test_stopped_by)
			stop_test(test_stopped_by);
		code = child_exit_code(child);
		test_process = 0;
		if (child > 0)
			kill(-child, SIGKILL);
		if (race_window_loaded())
			race_window_disarm();
		if (code != PROVES_NOTHING || test_stopped_by)
			break;
	}
	return code;
}

/*
 * The program: run all tests and end. A test that crashes is a failed one and
 * does not keep the others from reporting. @set_up, if given, returns why
 * nothing can be tested at all, or NULL; @tear_down, if given, follows in any
 * case.
 */
static inline void run_tests(const struct test *tests, size_t nr,
			     const char *(*set_up)(void),
			     void (*tear_down)(void))
{
	const char *nothing = NULL, *why;
	size_t i;
	int code;

	/*
	 * Pages on their way to the LRU lists are with the CPU that touched
	 * them, where MADV_PAGEOUT on another one does not find them.
	 */
	bind_to_cpu(0, 0);
	setbuf(stdout, NULL);
	ksft_print_header();
	ksft_set_plan(nr);

	shared = mmap(NULL, sizeof(*shared), PLAIN, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		ksft_exit_fail_msg("no memory: %s\n", strerror(errno));
	set_stop_handler(stop_test);
	if (!cpu_has_mte())
		nothing = "no MTE";
	else if (set_up)
		nothing = set_up();
	if (!nothing)
		allow_thp();

	for (i = 0; i < nr && !test_stopped_by; i++) {
		why = nothing;
		code = 0;
		if (!why && tests[i].missing)
			why = tests[i].missing(&tests[i]);
		if (!why)
			code = run_in_child(&tests[i]);
		if (test_stopped_by)
			break;
		if (code == PROVES_NOTHING)
			why = shared->is_void;
		if (why)
			ksft_test_result_skip("%s: %s\n", tests[i].property,
					      why);
		else
			ksft_test_result(!code, "%s\n", tests[i].property);
	}

	restore_settings();
	if (tear_down && cpu_has_mte())
		tear_down();
	if (test_stopped_by)
		ksft_exit_fail_msg("stopped by signal %d\n", test_stopped_by);

	/* A program that could test nothing says so in its exit code. */
	if (ksft_get_fail_cnt() || ksft_test_num() != ksft_plan)
		ksft_exit_fail();
	if (!ksft_get_pass_cnt() && ksft_get_xskip_cnt()) {
		ksft_print_cnts();
		exit(KSFT_SKIP);
	}
	ksft_exit_pass();
}

#endif /* _MTE_PAGE_TAGS_H */
