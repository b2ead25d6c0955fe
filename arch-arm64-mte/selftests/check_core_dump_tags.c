// SPDX-License-Identifier: GPL-2.0
/*
 * check_core_dump_tags - allocation tags in core files
 *
 * A core file has one segment of type PT_AARCH64_MEMTAG_MTE for each mapping
 * with PROT_MTE: two tags in a byte, the lower address in the low half. The
 * test has a child dump core, which shares its memory, and reads the tags back from
 * the file.
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
#include <linux/elf.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "mte_page_tags.h"

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

/* Older kernels do not have it. */
#ifndef PT_AARCH64_MEMTAG_MTE
#define PT_AARCH64_MEMTAG_MTE	(PT_LOPROC + 0x2)
#endif

/* Returns the length of the part of @core that has the segment for @addr */
static unsigned long find_tags(int core, unsigned long addr, off_t *where)
{
	struct elf64_hdr header;
	struct elf64_phdr seg;
	size_t i;

	if (pread(core, &header, sizeof(header), 0) != sizeof(header))
		return 0;
	for (i = 0; i < header.e_phnum; i++) {
		if (pread(core, &seg, sizeof(seg), header.e_phoff + i * sizeof(seg)) !=
		    sizeof(seg))
			return 0;
		if (seg.p_type != PT_AARCH64_MEMTAG_MTE || addr < seg.p_vaddr ||
		    addr >= seg.p_vaddr + seg.p_memsz)
			continue;
		/* Two tags in a byte */
		*where = seg.p_offset + (addr - seg.p_vaddr) / GRANULE / 2;
		return seg.p_offset + seg.p_filesz - *where;
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

/* Have a child dump core; the file */
static int dump_core(void)
{
	struct rlimit unlimited = { RLIM_INFINITY, RLIM_INFINITY };
	char path[sizeof(dir) + 16];
	pid_t child = start_child();
	int status, fd;

	if (!child) {
		/* All kinds of memory */
		must(!setrlimit(RLIMIT_CORE, &unlimited) &&
		     write_text("/proc/self/coredump_filter", "0x7f"), "no core files");
		prctl(PR_SET_DUMPABLE, 1);
		signal(SIGABRT, SIG_DFL);
		abort();
	}
	must(waitpid(child, &status, 0) == child, "waitpid");
	if (WIFEXITED(status))
		_exit(WEXITSTATUS(status));
	snprintf(path, sizeof(path), "%s/core.%d", dir, child);
	fd = open(path, O_RDONLY);
	unlink(path);
	must(fd >= 0, "no core file");
	return fd;
}

static void test_core(const struct test *test)
{
	enum memory_state state = *(const enum memory_state *)test->arg;
	size_t wrong;
	struct area a;
	off_t where;
	int core;

	if (state == NO_TAGS_CLOSED || state == FIRST_PAGE_ONLY)
		dirty_free_memory(test->backing, STALE_TAG);
	area_map(&a, test->backing, PAGES, state == NO_TAGS_CLOSED ? PLAIN : TAGGED);
	if (state == FIRST_PAGE_ONLY) {
		make_random_tags(a.tags, granules_per_page());
		write_tags(a.mem, a.tags, granules_per_page());
		/* The second one is the zero page, the others do not exist. */
		touch(a.mem + page_size());
	} else {
		area_fill_data(&a);
		if (state != NO_TAGS_CLOSED)
			area_fill_tags(&a);
		area_must_be_huge(&a);
	}
	if (state == NO_TAGS_CLOSED || state == WITH_TAGS_CLOSED)
		area_protect(&a, CLOSED);

	core = dump_core();
	/* Kernels before 5.18 write none. */
	if (MTE_ABI_CORE_FILE_MAY_LACK_TAGS && !find_tags(core, (unsigned long)a.mem, &where))
		skip("the kernel writes no tags to core files");
	wrong = count_wrong_in_core(core, &a);
	expect(!wrong, "%zu of %zu tags in the core file are wrong", wrong, a.granules);
	if (state != NO_TAGS_CLOSED)
		return;
	/* These are the pages of the file, and the kernel has yet to clear their tags. */
	begin_evidence(getpid());
	area_protect(&a, TAGGED);
	end_evidence(a.mem, a.size);
}

static void set_up(void)
{
	char pattern[sizeof(dir) + 16];

	if (geteuid())
		skip("needs root to say where core files go");
	if (access(PATTERN, F_OK))
		skip("kernel without core files");
	snprintf(dir, sizeof(dir), "/tmp/check_core_dump_tags.XXXXXX");
	must(mkdtemp(dir), "a directory for core files");
	snprintf(pattern, sizeof(pattern), "%s/core.%%p", dir);
	must(change(PATTERN, pattern), PATTERN);
	grow_hugetlb_pools(HUGETLB_PAGES);
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

static const struct test tests[] = {
	{ "core_file_has_tags", test_core, ON_ALL, &with_tags },
	{ "core_file_has_tags_of_inaccessible_page", test_core, ON_ALL,
	  &with_tags_closed },
	{ "core_file_shows_no_stale_tags", test_core, ON_ALL, &no_tags_closed },
	{ "core_file_has_no_tags_of_untouched_memory", test_core,
	  .arg = &first_page_only },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, tear_down);
}
