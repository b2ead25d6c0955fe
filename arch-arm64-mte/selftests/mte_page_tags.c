// SPDX-License-Identifier: GPL-2.0
/* Allocation tags of whole pages, seen from user space */
#define _GNU_SOURCE

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>

#include "mte_page_tags.h"

#define TAG_SHIFT	56

/* How often a test is run that proves nothing, and its exit code then */
#define MAX_ATTEMPTS	8
#define PROVED_NOTHING	2

/* Of larger huge pages there are too few, and it takes long to look at their tags. */
#define MAX_HUGE_SIZE	(32UL << 20)

/* What all processes of the program share */
static struct {
	/* Why the test ended as it did */
	char reason[256];
	/* Put back at the end */
	struct settings settings;
} *shared;

/* Whether this is the process of a test, or one that it has made */
static bool in_test;

/* Where the program's own set-up went wrong to, and how all tests end then */
static jmp_buf set_up_ended;
static int set_up_code;

/* How many times this test has been run before */
static unsigned int test_attempt;

/* The process of the test that runs, and the signal that wants the program to stop */
static pid_t test_process;
static int test_stopped_by;

static void end(int code, int error, const char *fmt, va_list ap)
{
	size_t size = sizeof(shared->reason), length;

	vsnprintf(shared->reason, size, fmt, ap);
	length = strlen(shared->reason);
	if (error)
		snprintf(shared->reason + length, size - length, ": %s", strerror(error));
	ksft_print_msg("%s\n", shared->reason);
	if (in_test)
		_exit(code);
	set_up_code = code;
	longjmp(set_up_ended, 1);
}

#define END(code, error)			\
	do {					\
		va_list ap;			\
		va_start(ap, fmt);		\
		end(code, error, fmt, ap);	\
		abort();			\
	} while (0)

void expect(bool ok, const char *fmt, ...)
{
	if (!ok)
		END(KSFT_FAIL, 0);
}

void must(bool ok, const char *fmt, ...)
{
	static const int lacking[] = {
		ENOMEM, EAGAIN, EMFILE, ENFILE, ENOSPC, EPERM, EACCES,
	};
	int error = errno;
	size_t i;

	if (ok)
		return;
	for (i = 0; i < ARRAY_SIZE(lacking); i++)
		if (error == lacking[i])
			END(KSFT_SKIP, error);
	END(KSFT_FAIL, error);
}

void skip(const char *fmt, ...)
{
	END(KSFT_SKIP, 0);
}

void skip_if(const char *why)
{
	if (why)
		skip("%s", why);
}

void try_again(const char *fmt, ...)
{
	END(PROVED_NOTHING, 0);
}

pid_t start_child(void)
{
	pid_t child = fork();

	must(child >= 0, "fork");
	return child;
}

/* Its exit code, -1 if it did not end by itself */
static int exit_code(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) != child)
		if (errno != EINTR)
			return -1;
	if (WIFSIGNALED(status))
		ksft_print_msg("process killed by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void wait_for(pid_t child)
{
	int code = exit_code(child);

	if (code)
		_exit(code);
}

void need_race_window(void)
{
	skip_if(race_window_missing());
}

void run_on_cpu(int nth)
{
	must(bind_to_cpu(0, nth), "sched_setaffinity");
}

bool change(const char *path, const char *text)
{
	return change_setting(&shared->settings, path, text);
}

static void stop_test(int signal)
{
	test_stopped_by = signal;
	if (test_process > 0)
		kill(-test_process, SIGKILL);
}

static int run_in_child(const struct test *test)
{
	int code = PROVED_NOTHING;
	pid_t child;

	for (test_attempt = 0; test_attempt < MAX_ATTEMPTS; test_attempt++) {
		child = fork();
		if (child < 0) {
			snprintf(shared->reason, sizeof(shared->reason), "fork: %s",
				 strerror(errno));
			return KSFT_SKIP;
		}
		/* With all that it starts it can be stopped at once. */
		setpgid(child, 0);
		if (!child) {
			set_stop_handler(SIG_DFL);
			in_test = true;
			test->run(test);
			_exit(KSFT_PASS);
		}
		test_process = child;
		if (test_stopped_by)
			stop_test(test_stopped_by);
		code = exit_code(child);
		test_process = 0;
		kill(-child, SIGKILL);
		if (race_window_loaded())
			race_window_disarm();
		if (code != PROVED_NOTHING || test_stopped_by)
			break;
	}
	return code;
}

static size_t hugetlb_size(enum backing_type backing);

static void run_test(const struct test *test)
{
	static const char * const names[] = { "anon", "thp", "memfd", "hugetlb" };
	int code = set_up_code;
	char name[128];

	snprintf(name, sizeof(name), "%s", test->property);
	if (test->on && test->backing == HUGETLB_CONT)
		snprintf(name, sizeof(name), "%s [hugetlb-%zuk]", test->property,
			 hugetlb_size(HUGETLB_CONT) / 1024);
	else if (test->on)
		snprintf(name, sizeof(name), "%s [%s]", test->property,
			 names[test->backing]);
	if (!code)
		code = run_in_child(test);
	if (test_stopped_by)
		return;
	if (code == PROVED_NOTHING || code == KSFT_SKIP)
		ksft_test_result_skip("%s: %s\n", name, shared->reason);
	else
		ksft_test_result(!code, "%s\n", name);
}

static void set_up_program(void (*set_up)(void))
{
	if (setjmp(set_up_ended))
		return;
	if (!(getauxval(AT_HWCAP2) & HWCAP2_MTE))
		skip("no MTE");
	if (thp_is_too_large()) {
		ksft_print_msg("huge pages of a PMD are too large, %lu kB are taken\n",
			       MAX_HUGE_SIZE / 1024);
		change(thp_setting(MAX_HUGE_SIZE, "enabled"), "madvise");
	}
	if (set_up)
		set_up();
}

void run_tests(const struct test *tests, size_t nr, void (*set_up)(void),
	       void (*tear_down)(void))
{
	unsigned int on, backings = ON_ALL, plan = 0;
	struct test test;
	size_t i;

	/*
	 * Pages on their way to the LRU lists are with the CPU that touched
	 * them, where MADV_PAGEOUT on another one does not find them.
	 */
	bind_to_cpu(0, 0);
	setbuf(stdout, NULL);
	ksft_print_header();
	if (hugetlb_size(HUGETLB_CONT) == hugetlb_size(HUGETLB))
		backings &= ~ON(HUGETLB_CONT);
	for (i = 0; i < nr; i++)
		plan += tests[i].on ? __builtin_popcount(tests[i].on & backings) : 1;
	ksft_set_plan(plan);

	shared = mmap(NULL, sizeof(*shared), PLAIN, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		ksft_exit_fail_msg("no memory: %s\n", strerror(errno));
	set_stop_handler(stop_test);
	set_up_program(set_up);
	for (i = 0; i < nr && !test_stopped_by; i++) {
		test = tests[i];
		on = test.on ? test.on & backings : ON(0);
		for (test.backing = 0; on >> test.backing && !test_stopped_by; test.backing++)
			if (on & ON(test.backing))
				run_test(&test);
	}

	restore_settings(&shared->settings);
	if (tear_down)
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

/*
 * Pages and tags
 */

void touch(const char *addr)
{
	unsigned int byte;

	asm volatile("ldrb %w0, [%1]" : "=r"(byte) : "r"(addr) : "memory");
}

void touch_for_write(char *addr)
{
	unsigned int byte;

	asm volatile("ldrb %w0, [%1]\n"
		     "strb %w0, [%1]" : "=&r"(byte) : "r"(addr) : "memory");
}

void set_tag(void *addr, unsigned char tag)
{
	unsigned long p = (unsigned long)addr | (unsigned long)tag << TAG_SHIFT;

	asm volatile(".arch armv8.5-a+memtag\n"
		     "stg %0, [%0]" : : "r"(p) : "memory");
}

unsigned char get_tag(const void *addr)
{
	unsigned long p = (unsigned long)addr;

	asm volatile(".arch armv8.5-a+memtag\n"
		     "ldg %0, [%0]" : "+r"(p) : : "memory");
	return p >> TAG_SHIFT & 0xf;
}

void make_random_tags(unsigned char *tags, size_t granules)
{
	size_t i;

	for (i = 0; i < granules; i++)
		tags[i] = 1 + rand() % 15;
}

void write_tags(char *addr, const unsigned char *tags, size_t granules)
{
	size_t i;

	for (i = 0; i < granules; i++)
		set_tag(addr + i * GRANULE, tags[i]);
}

size_t count_wrong_tags(const char *addr, const unsigned char *tags, size_t granules)
{
	size_t i, wrong = 0;

	for (i = 0; i < granules; i++)
		wrong += get_tag(addr + i * GRANULE) != tags[i];
	return wrong;
}

size_t count_nonzero_tags(const char *addr, size_t granules)
{
	size_t i, nonzero = 0;

	for (i = 0; i < granules; i++)
		nonzero += get_tag(addr + i * GRANULE) != 0;
	return nonzero;
}

#define PAGEMAP_SWAPPED	0x4000000000000000UL

/* Files of another process' pages, opened with the privileges for it; -1: one's own */
static int pagemap_fd = -1, kpageflags_fd = -1;

/* Entry @nr of a file that is open as @fd, or else is @path; 0 if it cannot be read */
static unsigned long read_entry(int fd, const char *path, unsigned long nr)
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

/* The page frame number in it is 0 without CAP_SYS_ADMIN. */
static unsigned long pagemap_entry(const void *addr)
{
	return read_entry(pagemap_fd, PAGEMAP, (unsigned long)addr / page_size());
}

unsigned long page_frame(const void *addr)
{
	return pagemap_entry(addr) & PAGEMAP_PFN;
}

size_t count_swapped_pages(const char *addr, size_t pages)
{
	size_t i, swapped = 0;

	for (i = 0; i < pages; i++)
		swapped += !!(pagemap_entry(addr + i * page_size()) & PAGEMAP_SWAPPED);
	return swapped;
}

unsigned long page_flags(const void *addr)
{
	unsigned long entry = pagemap_entry(addr);

	if (!(entry & PAGEMAP_PRESENT) || !(entry & PAGEMAP_PFN))
		return 0;
	return read_entry(kpageflags_fd, KPAGEFLAGS, entry & PAGEMAP_PFN);
}

bool is_thp_tail(const char *page)
{
	unsigned long flags = page_flags(page);

	return (flags & KPF_LARGE) && (flags & KPF_TAIL);
}

void need_page_flags(void)
{
	if (geteuid() || access(KPAGEFLAGS, R_OK))
		skip("cannot read " KPAGEFLAGS);
}

void look_at_pages_of(pid_t pid)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	pagemap_fd = open(path, O_RDONLY);
	kpageflags_fd = open(KPAGEFLAGS, O_RDONLY);
}

/*
 * Memory
 */

const char *thp_setting(size_t size, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), THP_SETTINGS "hugepages-%zukB/%s", size / 1024, name);
	return path;
}

/* Huge pages that a PMD maps are too large, and smaller ones have to do. */
bool thp_is_too_large(void)
{
	return read_number(THP_SETTINGS "hpage_pmd_size") > (long)MAX_HUGE_SIZE;
}

size_t thp_size(void)
{
	long size = read_number(THP_SETTINGS "hpage_pmd_size");

	if (thp_is_too_large())
		return access(thp_setting(MAX_HUGE_SIZE, "enabled"), W_OK) ? 0 : MAX_HUGE_SIZE;
	if (!strcmp(read_setting(THP_SETTINGS "enabled"), "never"))
		return 0;
	return size > 0 ? size : 0;
}

/* Have huge pages in memfds that ask for them. */
void allow_huge_memfds(void)
{
	change(thp_is_too_large() ? thp_setting(MAX_HUGE_SIZE, "shmem_enabled") :
		       THP_SETTINGS "shmem_enabled", "advise");
}

void need_collapse(void)
{
	/* The advice is looked at before the length: an unknown one is EINVAL */
	if (madvise(NULL, 0, MADV_COLLAPSE))
		skip("kernel without MADV_COLLAPSE");
	skip_if(backing_missing(THP));
	if (thp_is_too_large())
		skip("huge pages are too large");
}

void collapse(char *mem, size_t size)
{
	int i;

	for (i = 0; i < 50 && madvise(mem, size, MADV_COLLAPSE); i++)
		usleep(10000);
	touch(mem + page_size());
	if (!is_thp_tail(mem + page_size()))
		try_again("evidence void: no huge page by MADV_COLLAPSE");
}

/* What a PMD maps, if it is not too large; and what several entries of a table map */
static size_t hugetlb_size(enum backing_type backing)
{
	size_t pmd = page_size() * page_size() / 8;

	if (backing == HUGETLB && pmd <= MAX_HUGE_SIZE)
		return pmd;
	return page_size() == 4096 ? 64UL << 10 : 2UL << 20;
}

static const char *hugetlb_pool(enum backing_type backing, const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/mm/hugepages/hugepages-%zukB/%s",
		 hugetlb_size(backing) / 1024, name);
	return path;
}

static int hugetlb_flags(enum backing_type backing)
{
	return MAP_HUGETLB | __builtin_ctzl(hugetlb_size(backing)) << 26;
}

void grow_hugetlb_pools(long pages)
{
	enum backing_type backing;
	char text[32];
	long free;

	for (backing = HUGETLB; backing <= HUGETLB_CONT; backing++) {
		free = read_number(hugetlb_pool(backing, "free_hugepages"));
		if (free < 0 || free >= pages)
			continue;
		snprintf(text, sizeof(text), "%ld", pages - free +
			 read_number(hugetlb_pool(backing, "nr_hugepages")));
		change(hugetlb_pool(backing, "nr_hugepages"), text);
	}
}

const char *backing_missing(enum backing_type backing)
{
	bool no_mte;
	char *p;

	if (backing == THP && !thp_size())
		return "no transparent huge pages";
	if (backing == THP && (geteuid() || access(KPAGEFLAGS, R_OK)))
		return "cannot read " KPAGEFLAGS;
	if (backing < HUGETLB)
		return NULL;
	/* One for the test, one for a copy: who gets none is killed. */
	if (read_number(hugetlb_pool(backing, "free_hugepages")) < 2)
		return "no hugetlb pages";
	p = mmap(NULL, hugetlb_size(backing), TAGGED,
		 MAP_PRIVATE | MAP_ANONYMOUS | hugetlb_flags(backing), -1, 0);
	no_mte = p == MAP_FAILED && errno == EINVAL;
	munmap(p, hugetlb_size(backing));
	return no_mte ? "kernel without PROT_MTE on hugetlb memory" : NULL;
}

char *reserve_aligned(size_t size, int prot)
{
	char *p = mmap(NULL, 4 * size, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	must(p != MAP_FAILED, "mmap of %zu bytes", 4 * size);
	p = (char *)(((unsigned long)p + 2 * size - 1) & ~(size - 1));
	must(!mprotect(p, size, prot), "mprotect(%#x)", prot);
	return p;
}

void area_map(struct area *a, enum backing_type backing, size_t pages, int prot)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;

	a->backing = backing;
	a->fd = -1;
	a->size = pages * page_size();
	skip_if(backing_missing(backing));
	if (backing == THP) {
		a->size = thp_size();
		a->mem = reserve_aligned(a->size, prot);
		must(!madvise(a->mem, a->size, MADV_HUGEPAGE), "MADV_HUGEPAGE");
	} else if (backing >= HUGETLB) {
		a->size = hugetlb_size(backing);
		flags |= hugetlb_flags(backing);
	} else if (backing == SHARED) {
		a->fd = memfd_create("mte_page_tags", 0);
		must(a->fd >= 0 && !ftruncate(a->fd, a->size), "memfd");
		flags = MAP_SHARED;
	}
	if (backing != THP)
		a->mem = mmap(NULL, a->size, prot, flags, a->fd, 0);
	must(a->mem != MAP_FAILED, "mmap of %zu bytes", a->size);
	a->granules = a->size / GRANULE;
	a->tags = mmap(NULL, a->granules, PLAIN, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(a->tags != MAP_FAILED, "mmap of %zu bytes", a->granules);
}

unsigned long area_word(const struct area *a, size_t offset)
{
	return ~((unsigned long)a->mem + offset);
}

void area_fill_data(struct area *a)
{
	size_t i;

	for (i = 0; i < a->size; i += sizeof(unsigned long))
		*(unsigned long *)(a->mem + i) = area_word(a, i);
}

void area_fill_tags(struct area *a)
{
	make_random_tags(a->tags, a->granules);
	write_tags(a->mem, a->tags, a->granules);
}

void area_must_be_huge(const struct area *a)
{
	if (a->backing == THP && !is_thp_tail(a->mem + a->size - page_size()))
		try_again("no huge page was allocated");
}

void area_create(struct area *a, enum backing_type backing, size_t pages)
{
	area_map(a, backing, pages, TAGGED);
	area_fill_data(a);
	area_fill_tags(a);
	area_must_be_huge(a);
}

void area_expect_intact(const struct area *a, const char *when)
{
	size_t tags = count_wrong_tags(a->mem, a->tags, a->granules);
	size_t i, data = 0;

	for (i = 0; i < a->size; i += sizeof(unsigned long))
		data += *(unsigned long *)(a->mem + i) != area_word(a, i);
	expect(!tags && !data, "%s: of %zu tags %zu are wrong, of %zu words %zu", when,
	       a->granules, tags, a->size / sizeof(unsigned long), data);
}

void area_protect(const struct area *a, int prot)
{
	must(!mprotect(a->mem, a->size, prot), "mprotect(%#x)", prot);
}

/*
 * A page counts once it has left the swap cache, too, which mincore() tells.
 * The pagemap has no swap entries for shared memory.
 */
size_t area_pages_out(const struct area *a)
{
	size_t i, out = 0, pages = a->size / page_size();
	unsigned long entry;
	unsigned char in[pages];

	must(!mincore(a->mem, a->size, in), "mincore");
	for (i = 0; i < pages; i++) {
		entry = pagemap_entry(a->mem + i * page_size());
		out += !(in[i] & 1) && !(entry & PAGEMAP_PRESENT) &&
		       (a->backing == SHARED || entry & PAGEMAP_SWAPPED);
	}
	return out;
}

/* Some pages may be busy at first */
void area_page_out(const struct area *a)
{
	size_t out = 0, pages = a->size / page_size();
	int i;

	for (i = 0; i < 100 && out < pages; i++) {
		must(!madvise(a->mem, a->size, MADV_PAGEOUT), "MADV_PAGEOUT");
		out = area_pages_out(a);
		if (out < pages)
			usleep(10000);
	}
	if (out < pages)
		try_again("only %zu of %zu pages were swapped out", out, pages);
}

/*
 * Evidence
 */

#define MAX_DIRTY_HUGETLB	16

/* The page frames that had these tags */
static struct frames dirtied;

static size_t available_memory(void)
{
	FILE *f = fopen("/proc/meminfo", "r");
	unsigned long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %lu", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib << 10;
}

void dirty_free_memory(enum backing_type backing, unsigned char tag)
{
	size_t i, size = (64UL << 20) + 2 * thp_size(), half = available_memory() / 2;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	char *p;

	skip_if(backing_missing(backing));
	if (size > half)
		size = half & ~(page_size() - 1);
	if (backing >= HUGETLB) {
		flags |= hugetlb_flags(backing);
		size = read_number(hugetlb_pool(backing, "free_hugepages"));
		/* Those come back first that were given back last. */
		if (size > MAX_DIRTY_HUGETLB)
			size = MAX_DIRTY_HUGETLB;
		size *= hugetlb_size(backing);
	}
	p = mmap(NULL, size, TAGGED, flags, -1, 0);
	must(p != MAP_FAILED, "mmap of memory to leave tags in");
	/* Free huge pages are the first choice for the next huge page. */
	if (backing < HUGETLB)
		madvise(p, size / 2, MADV_HUGEPAGE);
	for (i = 0; i < size; i += GRANULE)
		set_tag(p + i, tag);
	dirtied.nr = 0;
	note_frames(&dirtied, -1, p, size);
	munmap(p, size);
}

void need_dirty_frames(const char *mem, size_t size)
{
	long dirty = count_frames(&dirtied, pagemap_fd, mem, size);

	if (dirty < 0)
		skip("page frame numbers are hidden");
	ksft_print_msg("%ld pages are in frames that had other tags before\n", dirty);
	if (!dirty)
		try_again("evidence void: no page had stale tags");
}

/*
 * Tags are cleared when the page is mapped or, not by every kernel, when it is allocated:
 * a second attempt looks there.
 */
void begin_evidence(pid_t tid)
{
	const char *clear = test_attempt % 2 ? "mte_zero_clear_page_tags" :
					       "mte_clear_page_tags";
	int ret;

	if (!race_window_loaded())
		return;
	ret = race_window_arm(clear, tid, 0, 0);
	if (ret && test_attempt % 2)
		try_again("cannot watch %s(): %s", clear, strerror(-ret));
	expect(!ret, "cannot watch %s(): %s", clear, strerror(-ret));
}

void end_evidence(const char *mem, size_t size)
{
	long stale;

	if (!race_window_loaded()) {
		need_dirty_frames(mem, size);
		return;
	}
	stale = race_window_stale();
	race_window_disarm();
	ksft_print_msg("%ld pages had stale tags to clear\n", stale);
	if (!stale)
		try_again("evidence void: no page had stale tags");
}
