// SPDX-License-Identifier: GPL-2.0
/*
 * check_core_dump_tags - allocation tags in core files
 *
 * A core file has one segment of type PT_AARCH64_MEMTAG_MTE for each mapping
 * with PROT_MTE: two tags in a byte, the lower address in the low half. The
 * test makes processes dump core and reads the tags back from the file.
 *
 * Scenarios and properties, for memory of each kind:
 *
 * 1. the process has set tags: the file has all of them
 * 2. the same, the memory was made PROT_NONE since
 * 3. the process has used memory without PROT_MTE, made it PROT_NONE with
 *    PROT_MTE, and has never been able to set a tag: the file has zeros,
 *    whatever the page frames were used for before
 * 4. the process has set tags in one page, read another one, and not touched the
 *    rest: zeros there
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "mte_page_tags.h"
#include "mte_race_window.h"

#define PAGES		32
#define STALE_TAG	0x9
#define HUGETLB_PAGES	4
#define PATTERN		"/proc/sys/kernel/core_pattern"

#ifndef MTE_ABI_CORE_FILE_MAY_LACK_TAGS
#define MTE_ABI_CORE_FILE_MAY_LACK_TAGS	false
#endif

enum memory_state { FIRST_PAGE_ONLY, WITH_TAGS, WITH_TAGS_CLOSED, NO_TAGS_CLOSED };

static const enum memory_state first_page_only = FIRST_PAGE_ONLY;
static const enum memory_state with_tags = WITH_TAGS;
static const enum memory_state with_tags_closed = WITH_TAGS_CLOSED;
static const enum memory_state no_tags_closed = NO_TAGS_CLOSED;

/* Where core files go, which only root may enter */
static char dir[64];

/*
 * In the state without tags every other page is made accessible at last: the
 * module sees whether there were stale tags, and so there were in its neighbour.
 */
static bool prepare(struct area *a, enum memory_state state)
{
	size_t i;

	switch (state) {
	case FIRST_PAGE_ONLY:
		make_random_tags(a->tags, granules_per_page());
		write_tags(a->mem, a->tags, granules_per_page());
		/* The second one is the zero page, the others do not exist. */
		touch(a->mem + page_size());
		return true;
	case WITH_TAGS:
	case WITH_TAGS_CLOSED:
		area_fill_data(a);
		area_fill_tags(a);
		return area_is_huge(a) &&
		       (state == WITH_TAGS || area_protect(a, CLOSED));
	case NO_TAGS_CLOSED:
		area_fill_data(a);
		if (!area_is_huge(a) || !area_protect(a, CLOSED))
			return false;
		if (!race_window_loaded() || a->backing == HUGETLB)
			had_stale_tags(-1, a->mem, a->size);
		if (a->backing == HUGETLB)
			return true;
		for (i = 0; i < a->size; i += 2 * page_size())
			if (mprotect(a->mem + i, page_size(), TAGGED))
				return false;
		return true;
	}
	return false;
}

static int crash(struct area *a, enum memory_state state)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };

	/* All kinds of memory */
	if (setrlimit(RLIMIT_CORE, &unlimited) ||
	    !write_text("/proc/self/coredump_filter", "0x7f") ||
	    !prepare(a, state))
		return 1;
	prctl(PR_SET_DUMPABLE, 1);
	signal(SIGABRT, SIG_DFL);
	abort();
}

/*
 * What we need of an ELF file for 64 bits: the table of its segments. The C
 * library's <elf.h> need not have the type, and does not go with <linux/elf.h>.
 */
#ifndef PT_AARCH64_MEMTAG_MTE
#define PT_AARCH64_MEMTAG_MTE	(PT_LOPROC + 0x2)
#endif
#define TABLE_OFFSET		32
#define TABLE_ENTRIES_OFFSET	56

struct segment {
	__u32 type, flags;
	__u64 offset, vaddr, paddr, filesz, memsz, align;
};

/* Returns the length of the part of @core that has the segment for @addr */
static unsigned long find_tags(int core, unsigned long addr, off_t *where)
{
	struct segment seg;
	__u16 entries;
	__u64 table;
	size_t i;

	if (pread(core, &table, sizeof(table), TABLE_OFFSET) != sizeof(table) ||
	    pread(core, &entries, sizeof(entries), TABLE_ENTRIES_OFFSET) !=
	    sizeof(entries))
		return 0;
	for (i = 0; i < entries; i++) {
		if (pread(core, &seg, sizeof(seg), table + i * sizeof(seg)) !=
		    sizeof(seg))
			return 0;
		if (seg.type != PT_AARCH64_MEMTAG_MTE || addr < seg.vaddr ||
		    addr >= seg.vaddr + seg.memsz)
			continue;
		/* Two tags in a byte */
		*where = seg.offset + (addr - seg.vaddr) / GRANULE / 2;
		return seg.offset + seg.filesz - *where;
	}
	return 0;
}

/* Returns how many tags of @a the core file has wrong; all if it has none */
static size_t count_wrong_in_core(int core, const struct area *a)
{
	size_t granules = granules_per_page(), wrong = 0, page, i;
	unsigned char bytes[granules / 2];
	const unsigned char *want = a->tags;
	off_t where = 0;

	for (page = 0; page < a->size; page += page_size()) {
		if (find_tags(core, (unsigned long)a->mem + page, &where) <
		    sizeof(bytes) ||
		    pread(core, bytes, sizeof(bytes), where) !=
		    (ssize_t)sizeof(bytes)) {
			wrong += granules;
			want += granules;
			continue;
		}
		for (i = 0; i < granules; i++)
			wrong += (bytes[i / 2] >> i % 2 * 4 & 0xf) != *want++;
	}
	return wrong;
}

/* Have a child dump core; the file, or -1 */
static int dump_core(struct area *a, enum memory_state state)
{
	char path[sizeof(dir) + 16];
	pid_t child;
	int status, fd;

	child = fork();
	if (!child)
		_exit(crash(a, state));
	if (child < 0 || waitpid(child, &status, 0) != child)
		return -1;
	/* It may have found that it proves nothing. */
	if (in_test && WIFEXITED(status) && WEXITSTATUS(status) == PROVES_NOTHING)
		_exit(PROVES_NOTHING);
	snprintf(path, sizeof(path), "%s/core.%d", dir, child);
	if (!WIFSIGNALED(status) || !WCOREDUMP(status)) {
		ksft_print_msg("no core file\n");
		unlink(path);
		return -1;
	}
	fd = open(path, O_RDONLY);
	if (fd < 0)
		ksft_print_msg("%s: %s\n", path, strerror(errno));
	unlink(path);
	return fd;
}

/* An area whose tags a child can note for us */
static bool shared_notes(struct area *a, enum backing_type backing, int prot)
{
	if (!area_map(a, backing, PAGES, prot))
		return false;
	free(a->tags);
	a->tags = mmap(NULL, a->granules, PLAIN, MAP_SHARED | MAP_ANONYMOUS,
		       -1, 0);
	return a->tags != MAP_FAILED;
}

static bool test_core(const struct test *test)
{
	enum memory_state state = *(const enum memory_state *)test->arg;
	bool watch = state == NO_TAGS_CLOSED && test->backing != HUGETLB;
	size_t wrong;
	struct area a;
	long stale;
	int core;

	if (!dirty_free_memory(test->backing, STALE_TAG) ||
	    !shared_notes(&a, test->backing,
			  state == NO_TAGS_CLOSED ? PLAIN : TAGGED))
		return false;
	if (watch && !race_window_watch("mte_clear_page_tags", 0))
		return false;
	core = dump_core(&a, state);
	stale = race_window_watched();
	if (core < 0)
		return false;
	wrong = count_wrong_in_core(core, &a);
	close(core);
	ksft_print_msg("%zu of %zu tags in the core file are wrong\n", wrong,
		       a.granules);
	/* The pages beside those that had none */
	/* Without the module the process itself has looked for some. */
	return !wrong && (!watch || stale < 0 || had_stale_tags(stale, NULL, 0));
}

static const char *set_up(void)
{
	char pattern[sizeof(dir) + 16];

	if (geteuid())
		return "needs root to say where core files go";
	if (access(PATTERN, F_OK))
		return "kernel without core files";
	snprintf(dir, sizeof(dir), "/tmp/check_core_dump_tags.XXXXXX");
	if (!mkdtemp(dir))
		return "cannot make a directory for core files";
	snprintf(pattern, sizeof(pattern), "%s/core.%%p", dir);
	if (!change_setting(PATTERN, pattern))
		return "cannot say where core files go";
	grow_hugetlb_pool(HUGETLB_PAGES);
	return NULL;
}

static void tear_down(void)
{
	struct dirent *entry;
	DIR *left;

	/* Who was stopped may have left a file. */
	left = opendir(dir);
	while (left && (entry = readdir(left)))
		unlinkat(dirfd(left), entry->d_name, 0);
	if (left)
		closedir(left);
	rmdir(dir);
}

/* Kernels before 5.18 write none. */
static const char *no_tags_in_core(void)
{
	static const char *why;
	static bool known;
	struct area a;
	off_t where;
	int fd;

	if (!MTE_ABI_CORE_FILE_MAY_LACK_TAGS || known)
		return why;
	if (!shared_notes(&a, ANON, TAGGED))
		return NULL;
	fd = dump_core(&a, WITH_TAGS);
	if (fd >= 0 && !find_tags(fd, (unsigned long)a.mem, &where))
		why = "the kernel writes no tags to core files";
	close(fd);
	known = true;
	return why;
}

static const char *no_backing(const struct test *test)
{
	const char *why = no_tags_in_core();

	return why ? why : backing_missing(test->backing);
}

static const struct test tests[] = {
	{ "core_file_has_tags", test_core, no_backing, ANON, &with_tags },
	{ "core_file_has_tags_of_huge_page", test_core, no_backing, THP,
	  &with_tags },
	{ "core_file_has_tags_of_shared_memory", test_core, no_backing, SHARED,
	  &with_tags },
	{ "core_file_has_tags_of_hugetlb_page", test_core, no_backing, HUGETLB,
	  &with_tags },
	{ "core_file_has_tags_of_inaccessible_page", test_core, no_backing,
	  ANON, &with_tags_closed },
	{ "core_file_has_tags_of_inaccessible_huge_page", test_core,
	  no_backing, THP, &with_tags_closed },
	{ "core_file_has_tags_of_inaccessible_hugetlb_page", test_core,
	  no_backing, HUGETLB, &with_tags_closed },
	{ "core_file_shows_no_stale_tags", test_core, no_backing, ANON,
	  &no_tags_closed },
	{ "core_file_shows_no_stale_tags_of_huge_page", test_core, no_backing,
	  THP, &no_tags_closed },
	{ "core_file_shows_no_stale_tags_of_shared_memory", test_core,
	  no_backing, SHARED, &no_tags_closed },
	{ "core_file_shows_no_stale_tags_of_hugetlb_page", test_core,
	  no_backing, HUGETLB, &no_tags_closed },
	{ "core_file_has_no_tags_of_untouched_memory", test_core, no_backing,
	  ANON, &first_page_only },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, tear_down);
}
