// SPDX-License-Identifier: GPL-2.0
/*
 * Memory tagging helpers for KVM selftests
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/mount.h>
#include <linux/userfaultfd.h>

#include "arm64/mte/mte_zram.h"
#include "kselftest.h"
#include "mte.h"

/* A case that takes longer hangs; emulated CPUs on a busy host are slow. */
#define CASE_TIMEOUT_S		240

/*
 * Do not run the machine out of memory when dirtying the free part, nor dirty
 * all of a big one: whether it was enough is told by what the cases find.
 */
#define MEMORY_RESERVE		(48UL << 20)
#define MEMORY_MAX		(4UL << 30)
/* More than this is asked for before it is used. */
#define MUCH_MEMORY		(16UL << 20)
/* The largest huge page that the cases are to use many of */
#define MAX_BLOCK		(32UL << 20)
/* More than slot 0 has, of pages of 64 KiB, too */
#define MAX_PROGRAM		(256UL << 20)
/* How often a case may ask to be run again */
#define MAX_RUNS		5
/* Long enough for what is done meanwhile, on a busy host; it ends by itself. */
#define RACE_HOLD_US		100000

#define FRAMES_HIDDEN		"page frame numbers are hidden without CAP_SYS_ADMIN"
#define KPAGEFLAGS_THP		BIT(22)
#define KPAGEFLAGS_ZERO_PAGE	BIT(24)
#define KPAGEFLAGS_ARCH_2	BIT(41)

/* Of CONFIG_HWPOISON_INJECT */
#define UNPOISON		"/sys/kernel/debug/hwpoison/unpoison-pfn"
#define HUGEPAGES		"/sys/kernel/mm/hugepages/"
#define THP			"/sys/kernel/mm/transparent_hugepage/"

/*
 * The guest reports by writing to IPAs without memory behind them: the result
 * of a call, or ESR_EL1 of an exception, of which none is expected.
 */
#define DOORBELL_RESULT		0x40000000UL
#define DOORBELL_EXCEPTION	(DOORBELL_RESULT + 8)
#define DOORBELL_REPORT		(DOORBELL_RESULT + 16)

#define ONE_REG_SCTLR_EL1	ARM64_SYS_REG(3, 0, 1, 0, 0)
#define ONE_REG_TCR_EL1		ARM64_SYS_REG(3, 0, 2, 0, 2)
#define ONE_REG_FAR_EL1		ARM64_SYS_REG(3, 0, 6, 0, 0)
#define ONE_REG_MAIR_EL1	ARM64_SYS_REG(3, 0, 10, 2, 0)
#define ONE_REG_VBAR_EL1	ARM64_SYS_REG(3, 0, 12, 0, 0)
#define ONE_REG_TPIDR_EL1	ARM64_SYS_REG(3, 0, 13, 0, 4)

#define SCTLR_ATA	BIT(43)
#define TCR_TBI0	BIT(37)
/* The library maps all memory with attribute index 4. */
#define MAIR_NORMAL_SHIFT	(4 * 8)
#define MAIR_TAGGED		0xf0UL

size_t mte_page_size, mte_block_size;

/* Written by the process of a case, read by the one that reports. */
static struct {
	bool failed;
	char skip_reason[256];
	bool again;
	/* How often the case ran before */
	int runs;
	/* Nearly all of free memory was dirtied once. */
	bool memory_dirty;
	/* What the case changed in the system, to be cleaned up */
	struct settings settings;
	int zram;
} *verdict;

/*
 * Reporting
 */

const char *mte_backing_name(enum mte_backing backing)
{
	static const char * const names[] = {
		[MTE_ANON] = "anon",
		[MTE_THP] = "thp",
		[MTE_MEMFD] = "memfd",
		[MTE_HUGETLB] = "hugetlb",
		[MTE_SHARED_HUGETLB] = "hugetlb-shared",
		[MTE_PRIVATE_FILE] = "private-file",
	};
	static char name[32];

	if (backing != MTE_HUGETLB_CONT)
		return names[backing];
	snprintf(name, sizeof(name), "hugetlb-%zuk", mte_unit(backing) / 1024);

	return name;
}

static void print_diagnostic(const char *fmt, va_list ap)
{
	char text[512];

	/* In one piece: threads and the console's other users write, too. */
	vsnprintf(text, sizeof(text), fmt, ap);
	printf("# %s\n", text);
	fflush(stdout);
}

bool mte_expect(bool ok, const char *fmt, ...)
{
	va_list ap;

	if (ok)
		return true;

	va_start(ap, fmt);
	print_diagnostic(fmt, ap);
	va_end(ap);
	verdict->failed = true;

	return false;
}

bool mte_expect_return(long ret, long expected, const char *what)
{
	return mte_expect(ret == expected, "%s: returned %ld%s%s, not %ld%s%s", what,
			  ret, ret < 0 ? ", " : "", ret < 0 ? strerror(-ret) : "",
			  expected, expected < 0 ? ", " : "",
			  expected < 0 ? strerror(-expected) : "");
}

void mte_skip(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(verdict->skip_reason, sizeof(verdict->skip_reason), fmt, ap);
	va_end(ap);
	exit(KSFT_SKIP);
}

void mte_die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	print_diagnostic(fmt, ap);
	va_end(ap);
	verdict->failed = true;
	exit(KSFT_FAIL);
}

void mte_run_again(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(verdict->skip_reason, sizeof(verdict->skip_reason), fmt, ap);
	va_end(ap);
	printf("# %s\n", verdict->skip_reason);
	/* What has failed already is no bad luck. */
	verdict->again = !verdict->failed;
	verdict->memory_dirty = false;
	exit(verdict->failed ? KSFT_FAIL : KSFT_SKIP);
}

unsigned long mte_tunable(const char *path)
{
	long value = read_number(path);

	return value > 0 ? value : 0;
}

static void set_tunable(const char *path, const char *text)
{
	if (!change_setting(&verdict->settings, path, text))
		mte_skip("cannot write to %s: %s", path, strerror(errno));
}

void mte_set_tunable(const char *path, unsigned long value)
{
	char text[32];

	snprintf(text, sizeof(text), "%lu", value);
	set_tunable(path, text);
}

/*
 * Swap space
 */

void mte_need_swap(void)
{
	size_t size = (64UL << 20) + 4 * MTE_BLOCK;

	verdict->zram = zram_add(size);
	if (verdict->zram < 0)
		mte_skip("no zram");
	if (!zram_swap_on(verdict->zram, size))
		mte_skip("cannot swap to zram: %s", strerror(errno));
}

void mte_swap_off(void)
{
	if (!zram_swap_off(verdict->zram))
		mte_die("swapoff: %s", strerror(errno));
}

/* The process of the case that runs, and the signal that wants us to stop */
static pid_t case_process;
static int stopped_by;

static void stop_case(int signal)
{
	stopped_by = signal;
	if (case_process > 0)
		kill(-case_process, SIGKILL);
}

/* Returns the wait status of the process that ran the case. */
static int run_in_child(const struct mte_case *c)
{
	int status;
	pid_t pid;

	verdict->failed = false;
	verdict->again = false;
	verdict->skip_reason[0] = '\0';
	verdict->zram = -1;
	fflush(stdout);

	pid = fork();
	/* With all that it starts it can be stopped at once. */
	if (pid >= 0)
		setpgid(pid, 0);
	if (!pid) {
		set_stop_handler(SIG_DFL);
		alarm(CASE_TIMEOUT_S);
		c->run(c);
		exit(verdict->failed ? KSFT_FAIL : KSFT_PASS);
	}
	if (pid < 0)
		ksft_exit_fail_msg("cannot run a process: %s\n",
				   strerror(errno));
	case_process = pid;
	if (stopped_by)
		stop_case(stopped_by);
	while (waitpid(pid, &status, 0) != pid)
		if (errno != EINTR)
			ksft_exit_fail_msg("cannot wait for a process: %s\n",
					   strerror(errno));
	case_process = 0;
	kill(-pid, SIGKILL);

	/* What a process that died in the middle of things left behind */
	if (race_window_loaded())
		race_window_disarm();
	if (verdict->zram >= 0)
		zram_remove(verdict->zram);
	restore_settings(&verdict->settings);
	if (stopped_by)
		ksft_exit_fail_msg("stopped by signal %d\n", stopped_by);

	return status;
}

static void run_case(const struct mte_case *c)
{
	char name[128];
	int status;

	if (c->backing >= MTE_OWN)
		snprintf(name, sizeof(name), "%s", c->property);
	else
		snprintf(name, sizeof(name), "%s [%s]", c->property,
			 mte_backing_name(c->backing));

	verdict->runs = 0;
	do {
		status = run_in_child(c);
	} while (verdict->again && ++verdict->runs < MAX_RUNS);

	if (WIFSIGNALED(status)) {
		if (WTERMSIG(status) == SIGALRM)
			ksft_print_msg("timed out after %d s\n", CASE_TIMEOUT_S);
		else
			ksft_print_msg("killed by signal %d\n", WTERMSIG(status));
		verdict->failed = true;
	} else if (WEXITSTATUS(status) == KSFT_SKIP && !verdict->failed) {
		/* Keep the name in front, as for every other result. */
		ksft_inc_xskip_cnt();
		printf("ok %d %s # SKIP %s\n", (int)ksft_test_num(), name,
		       verdict->skip_reason[0] ? verdict->skip_reason :
		       "the KVM selftest library misses something");
		return;
	} else if (WEXITSTATUS(status) != KSFT_PASS && !verdict->failed) {
		ksft_print_msg("set-up failed, exit status %d\n",
			       WEXITSTATUS(status));
		verdict->failed = true;
	}

	ksft_test_result(!verdict->failed, "%s\n", name);
}

bool mte_kvm_is_protected(void)
{
	char line[4096] = "";
	FILE *f = fopen("/proc/cmdline", "r");

	if (!f)
		return false;
	if (!fgets(line, sizeof(line), f))
		line[0] = '\0';
	fclose(f);

	return strstr(line, "kvm-arm.mode=protected");
}

/* Returns the kinds of memory that cases can be run on. */
static unsigned int need_kvm_with_mte(unsigned int on)
{
	int kvm = open("/dev/kvm", O_RDWR), mte;

	if (kvm < 0)
		ksft_exit_skip("cannot open /dev/kvm: %s\n", strerror(errno));
	mte = ioctl(kvm, KVM_CHECK_EXTENSION, (unsigned long)KVM_CAP_ARM_MTE);
	close(kvm);
	if (mte > 0)
		return on;

	on &= MTE_ON_PROTECTED;
	if (!on || !mte_kvm_is_protected())
		ksft_exit_skip("KVM_CAP_ARM_MTE is not there\n");

	return on;
}

void mte_run_cases(const struct mte_case *cases, unsigned int nr)
{
	unsigned int backing, i, on = 0, plan = 0;
	struct mte_case c;

	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	mte_page_size = getpagesize();
	/* A table is a page full of entries of 8 bytes. */
	mte_block_size = mte_page_size * (mte_page_size / 8);
	if (mte_block_size > MAX_BLOCK)
		mte_block_size = MAX_BLOCK;
	for (i = 0; i < nr; i++)
		on |= cases[i].on;
	on = need_kvm_with_mte(on);
	/* If the library misses something, it says so before there is a plan. */
	kvm_vm_free(vm_create(1));
	if (mte_unit(MTE_HUGETLB_CONT) == mte_unit(MTE_HUGETLB))
		on &= ~BIT(MTE_HUGETLB_CONT);

	verdict = mmap(NULL, sizeof(*verdict), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (verdict == MAP_FAILED)
		ksft_exit_fail_msg("no memory: %s\n", strerror(errno));

	for (i = 0; i < nr; i++)
		plan += __builtin_popcount(cases[i].on & on);
	ksft_set_plan(plan);
	set_stop_handler(stop_case);

	for (i = 0; i < nr; i++) {
		c = cases[i];
		for (backing = 0; c.on >> backing; backing++) {
			if (!(c.on & on & BIT(backing)))
				continue;
			c.backing = backing;
			run_case(&c);
		}
	}
	/* A program that could test nothing says so in its exit code. */
	if (!ksft_get_pass_cnt() && !ksft_get_fail_cnt()) {
		ksft_print_cnts();
		exit(KSFT_SKIP);
	}
	ksft_finished();
}

/*
 * The guest's side
 */

static u64 guest_load(u64 addr, u64 length)
{
	u64 end = addr + length;

	for (; addr < end; addr += MTE_PAGE)
		READ_ONCE(*(u64 *)addr);

	return 0;
}

static u64 guest_store(u64 addr, u64 length)
{
	u64 end = addr + length;

	for (; addr < end; addr += MTE_PAGE)
		WRITE_ONCE(*(u64 *)addr, addr);

	return 0;
}

static u64 set_pattern(u64 addr, u64 length, u64 pattern, u64 granule)
{
	u64 end = addr + length;

	for (; addr < end; addr += MTE_GRANULE)
		mte_guest_store_tag(addr, mte_pattern_tag(pattern, granule++));

	return 0;
}

static u64 guest_mismatches(u64 addr, u64 length, u64 pattern, u64 granule)
{
	u64 end = addr + length;
	u64 count = 0;

	for (; addr < end; addr += MTE_GRANULE)
		count += mte_guest_load_tag(addr) !=
			 mte_pattern_tag(pattern, granule++);

	return count;
}

/*
 * TPIDR_EL1 holds the address of the doorbells.
 *
 * Between two writes to the first one the host puts a function into x4 and its
 * arguments into x0 to x3. Any exception is reported, with its syndrome.
 */
asm("	.pushsection .text\n"
"	.balign	2048\n"
"mte_guest_vectors:\n"
"	.rept	16\n"
"	mrs	x0, esr_el1\n"
"	mrs	x1, tpidr_el1\n"
"	str	x0, [x1, #8]\n"
"	b	.\n"
"	.balign	128\n"
"	.endr\n"
"mte_guest_entry:\n"
"1:	mrs	x1, tpidr_el1\n"
"	str	x0, [x1]\n"
"	blr	x4\n"
"	b	1b\n"
"	.popsection\n");

/*
 * The VMM's side
 */

/* What a stop is, in words */
static const char *stop_text(struct mte_stop stop)
{
	static const char * const texts[] = {
		[MTE_RETURNED] = "the guest's function returned %#lx",
		[MTE_REPORTED] = "the guest reported %#lx",
		[MTE_EXCEPTION] = "exception in the guest, ESR %#lx",
		[MTE_RUN_FAILED] = "KVM_RUN failed: %s",
	};
	static char text[128];

	if (stop.why == MTE_RUN_FAILED)
		snprintf(text, sizeof(text), texts[stop.why], strerror(stop.value));
	else
		snprintf(text, sizeof(text), texts[stop.why], (unsigned long)stop.value);

	return text;
}

bool mte_expect_stop(struct mte_stop stop, int error, const char *when)
{
	if (error)
		return mte_expect(stop.why == MTE_RUN_FAILED && stop.value == error,
				  "%s: %s; KVM_RUN should have failed: %s", when,
				  stop_text(stop), strerror(error));

	return mte_expect(stop.why == MTE_RETURNED, "%s: %s", when, stop_text(stop));
}

void mte_die_of_stop(struct mte_stop stop, const char *when)
{
	mte_die("%s: %s", when, stop_text(stop));
}

static u64 run_until_doorbell(struct mte_vm *m)
{
	struct mte_stop stop = mte_guest_run(m);

	if (stop.why == MTE_EXCEPTION)
		ksft_print_msg("FAR %#lx, PC %#lx\n",
			       (unsigned long)vcpu_get_reg(m->vcpu, ONE_REG_FAR_EL1),
			       (unsigned long)vcpu_get_reg(m->vcpu, ARM64_CORE_REG(elr_el1)));
	if (stop.why != MTE_RETURNED)
		mte_die_of_stop(stop, "a call of the guest");

	return stop.value;
}

static u64 call_guest(struct mte_vm *m, void *function, u64 arg0, u64 arg1, u64 arg2, u64 arg3)
{
	mte_guest_start(m, function, arg0, arg1, arg2, arg3);

	return run_until_doorbell(m);
}

struct mte_vm *mte_vm_create(bool mte)
{
	struct mte_vm *m = calloc(1, sizeof(*m));
	u64 mair;

	m->vm = vm_create(1);
	sync_global_to_guest(m->vm, mte_page_size);
	sync_global_to_guest(m->vm, mte_block_size);
	if (mte && __vm_enable_cap(m->vm, KVM_CAP_ARM_MTE, 0))
		mte_die("cannot enable KVM_CAP_ARM_MTE: %s", strerror(errno));

	m->vcpu = vm_vcpu_add(m->vm, 0, mte_guest_entry);
	kvm_arch_vm_finalize_vcpus(m->vm);
	virt_map(m->vm, DOORBELL_RESULT, DOORBELL_RESULT, 1);

	vcpu_set_reg(m->vcpu, ONE_REG_TPIDR_EL1, DOORBELL_RESULT);
	vcpu_set_reg(m->vcpu, ONE_REG_VBAR_EL1, (uintptr_t)mte_guest_vectors);
	if (mte) {
		mair = vcpu_get_reg(m->vcpu, ONE_REG_MAIR_EL1);
		mair &= ~(0xffUL << MAIR_NORMAL_SHIFT);
		mair |= MAIR_TAGGED << MAIR_NORMAL_SHIFT;
		vcpu_set_reg(m->vcpu, ONE_REG_MAIR_EL1, mair);
		vcpu_set_reg(m->vcpu, ONE_REG_TCR_EL1,
			     vcpu_get_reg(m->vcpu, ONE_REG_TCR_EL1) | TCR_TBI0);
		vcpu_set_reg(m->vcpu, ONE_REG_SCTLR_EL1,
			     vcpu_get_reg(m->vcpu, ONE_REG_SCTLR_EL1) | SCTLR_ATA);
	}
	run_until_doorbell(m);

	return m;
}

static void *map_aligned(size_t size, int flags, int fd)
{
	/* Huge mappings want the alignment; it does not harm the others. */
	char *room = mmap(NULL, size + MTE_BLOCK, PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (room == MAP_FAILED)
		return room;
	room = (char *)(((uintptr_t)room + MTE_BLOCK - 1) & ~(MTE_BLOCK - 1));

	return mmap(room, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
}

size_t mte_hugetlb_size(size_t size)
{
	unsigned long kib, found = 0;
	struct dirent *entry;
	DIR *dir = opendir(HUGEPAGES);

	while (dir && (entry = readdir(dir))) {
		if (sscanf(entry->d_name, "hugepages-%lukB", &kib) == 1 &&
		    kib > size / 1024 && (!found || kib < found))
			found = kib;
	}
	if (dir)
		closedir(dir);

	return found * 1024;
}

size_t mte_unit(enum mte_backing backing)
{
	size_t size, next;

	switch (backing) {
	case MTE_THP:
		return MTE_BLOCK;
	case MTE_HUGETLB:
	case MTE_SHARED_HUGETLB:
		/* The largest that is not too large */
		for (size = 0; (next = mte_hugetlb_size(size)); size = next)
			if (next > MTE_BLOCK)
				break;
		return size ? size : MTE_BLOCK;
	case MTE_HUGETLB_CONT:
		size = mte_hugetlb_size(0);
		return size ? size : MTE_BLOCK;
	default:
		return MTE_PAGE;
	}
}

/* How many pages the pool of hugetlb pages had, and has been given since */
static unsigned long pool_had, pool_given;

static void set_huge_pages(enum mte_backing backing, unsigned long pages)
{
	unsigned long kib = mte_unit(backing) / 1024;
	char pool[80];

	snprintf(pool, sizeof(pool), HUGEPAGES "hugepages-%lukB/nr_hugepages", kib);
	/*
	 * What the pool hands on from owner to owner is a property of its own. Pages
	 * fresh from the buddy allocator are the ones that it hands out first.
	 */
	if (!pool_given)
		pool_had = mte_tunable(pool);
	if (pages > pool_given)
		mte_set_tunable(pool, pool_had + pages);
	pool_given = mte_tunable(pool) - pool_had;
	if (pool_given < pages)
		mte_skip("cannot reserve %lu hugetlb pages of %lu KiB", pages,
			 kib);
}

void mte_vm_spare_huge_pages(struct mte_vm *m)
{
	if (BIT(m->backing) & (BIT(MTE_HUGETLB) | BIT(MTE_HUGETLB_CONT) |
			       BIT(MTE_SHARED_HUGETLB)))
		set_huge_pages(m->backing, 2 * m->size / mte_unit(m->backing));
}

/* Have transparent huge pages of MTE_BLOCK for those who ask for them. */
static void need_thp(void)
{
	size_t pmd = mte_tunable(THP "hpage_pmd_size");
	char text[80];

	if (pmd <= MTE_BLOCK) {
		if (!strcmp(read_setting(THP "enabled"), "never"))
			mte_skip("transparent huge pages are switched off");
		return;
	}
	snprintf(text, sizeof(text), THP "hugepages-%zukB/enabled", MTE_BLOCK / 1024);
	if (access(text, F_OK))
		mte_skip("transparent huge pages are of %zu MiB only", pmd >> 20);
	set_tunable(text, "madvise");
}

/* How much free memory the kernel keeps for itself, and some more */
static size_t memory_reserve(void)
{
	size_t kept = 2 * 1024 * mte_tunable("/proc/sys/vm/min_free_kbytes");

	return kept > MEMORY_RESERVE ? kept : MEMORY_RESERVE;
}

/*
 * Pages of ramfs are not movable. The allocator has free lists of their own for
 * them, which mte_dirty_free_memory() does not reach. Once these are empty, it
 * takes pages from the others. The file is gone when the process is.
 */
static void use_up_unmovable_memory(void)
{
	int mib = 16 << verdict->runs, fd = mte_open_file(0);
	const size_t size = 1 << 20;
	char *zeros = calloc(1, size);

	/* Not the last memory of the machine */
	for (; mib && mte_free_memory() > memory_reserve(); mib--)
		if (write(fd, zeros, size) < 0)
			mte_skip("no memory for a file: %s", strerror(errno));
	free(zeros);
}

static void *map_backing(enum mte_backing backing, size_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	void *mem;
	int fd;

	switch (backing) {
	case MTE_ANON:
	case MTE_THP:
		if (backing == MTE_THP)
			need_thp();
		mem = map_aligned(size, flags, -1);
		if (mem != MAP_FAILED &&
		    madvise(mem, size, backing == MTE_THP ?
			    MADV_HUGEPAGE : MADV_NOHUGEPAGE) &&
		    backing == MTE_THP)
			mte_skip("no transparent huge pages: %s",
				 strerror(errno));
		return mem;
	case MTE_MEMFD:
		fd = kvm_memfd_alloc(size, false);
		mem = map_aligned(size, MAP_SHARED, fd);
		close(fd);
		return mem;
	case MTE_HUGETLB:
	case MTE_HUGETLB_CONT:
	case MTE_SHARED_HUGETLB:
		set_huge_pages(backing, size / mte_unit(backing));
		flags = backing == MTE_SHARED_HUGETLB ? MAP_SHARED : MAP_PRIVATE;
		flags |= MAP_ANONYMOUS | MAP_HUGETLB |
			 __builtin_ctzl(mte_unit(backing)) << MAP_HUGE_SHIFT;
		return map_aligned(size, flags, -1);
	case MTE_PRIVATE_FILE:
		use_up_unmovable_memory();
		fd = mte_open_file(size);
		mem = map_aligned(size, MAP_PRIVATE, fd);
		close(fd);
		return mem;
	default:
		return MAP_FAILED;
	}
}

static void add_memory(struct mte_vm *m, enum mte_backing backing, size_t size, size_t offset)
{
	size_t mask = mte_unit(backing) - 1;
	char *mem;

	size = (size + mask) & ~mask;
	if (size > MUCH_MEMORY)
		mte_need_memory(size);
	mem = map_backing(backing, size + ((offset + mask) & ~mask));
	if (mem == MAP_FAILED)
		mte_skip("cannot map %zu KiB of %s memory: %s", size / 1024,
			 mte_backing_name(backing), strerror(errno));

	if (mte_vm_add_mapping(m, mem + offset, size))
		mte_die("cannot add %s memory: %s", mte_backing_name(backing),
			strerror(errno));
	m->backing = backing;
}

void mte_vm_add_memory(struct mte_vm *m, enum mte_backing backing, size_t size)
{
	add_memory(m, backing, size, 0);
}

struct mte_vm *mte_vm_create_on(enum mte_backing backing, size_t size, unsigned int flags)
{
	struct mte_vm *m;

	if (flags & MTE_DIRTY)
		mte_dirty_free_memory();
	m = mte_vm_create(true);
	add_memory(m, backing, size, flags & MTE_MISALIGNED ? MTE_PAGE : 0);
	if (flags & MTE_TOUCHED) {
		mte_vmm_touch(m, size);
		mte_need_huge_page(m);
	}
	if (flags & MTE_DIRTY)
		mte_tag_program_memory(m);

	return m;
}

void mte_vm_set_slot(struct mte_vm *m, unsigned int flags, size_t size)
{
	if (mte_set_slot(m->vm, MTE_REGION_SLOT, flags, MTE_REGION_IPA, m->hva, size))
		mte_die("cannot change the slot: %s", strerror(errno));
}

void mte_vm_log_dirty_pages(struct mte_vm *m, bool on)
{
	mte_vm_set_slot(m, on ? KVM_MEM_LOG_DIRTY_PAGES : 0, m->size);
}

void mte_vm_destroy(struct mte_vm *m)
{
	kvm_vm_free(m->vm);
	munmap(m->hva, m->size);
	free(m);
}

void mte_fill_pattern(u8 *tags, size_t nr, u64 pattern)
{
	size_t i;

	for (i = 0; i < nr; i++)
		tags[i] = mte_pattern_tag(pattern, i);
}

long mte_copy(struct mte_vm *m, struct kvm_arm_copy_mte_tags *args)
{
	long ret = __vm_ioctl(m->vm, KVM_ARM_MTE_COPY_TAGS, args);

	return ret == -1 ? -errno : ret;
}

long mte_write_tags(struct mte_vm *m, u64 ipa, const u8 *tags, size_t length)
{
	struct kvm_arm_copy_mte_tags args = {
		.guest_ipa = ipa,
		.length = length,
		.addr = (void *)tags,
		.flags = KVM_ARM_TAGS_TO_GUEST,
	};

	return mte_copy(m, &args);
}

long mte_read_tags(struct mte_vm *m, u64 ipa, u8 *tags, size_t length)
{
	struct kvm_arm_copy_mte_tags args = {
		.guest_ipa = ipa,
		.length = length,
		.addr = tags,
		.flags = KVM_ARM_TAGS_FROM_GUEST,
	};

	return mte_copy(m, &args);
}

static u64 granule_at(u64 ipa)
{
	return (ipa - MTE_REGION_IPA) / MTE_GRANULE;
}

void mte_write_pattern(struct mte_vm *m, u64 ipa, size_t length, u64 pattern)
{
	size_t i, nr = length / MTE_GRANULE;
	u8 *tags = malloc(nr);
	long ret;

	for (i = 0; i < nr; i++)
		tags[i] = mte_pattern_tag(pattern, granule_at(ipa) + i);
	ret = mte_write_tags(m, ipa, tags, length);
	if (!mte_expect_return(ret, length, "COPY_TAGS to the guest"))
		exit(KSFT_FAIL);
	free(tags);
}

bool mte_expect_ioctl_reads(struct mte_vm *m, u64 ipa, size_t length, u64 pattern, const char *when)
{
	size_t i, bad = 0, nr = length / MTE_GRANULE;
	u8 *tags = malloc(nr);
	long ret;

	/* A value that is no tag: every byte has to be written. */
	memset(tags, 0xee, nr);
	ret = mte_read_tags(m, ipa, tags, length);
	for (i = 0; i < nr; i++)
		bad += tags[i] != mte_pattern_tag(pattern, granule_at(ipa) + i);
	free(tags);

	if (!mte_expect_return(ret, length, when))
		return false;

	return mte_expect(!bad, "%s: COPY_TAGS reads %zu of %zu tags wrong",
			  when, bad, nr);
}

void mte_guest_load(struct mte_vm *m, u64 ipa, size_t length)
{
	call_guest(m, guest_load, ipa, length, 0, 0);
}

void mte_guest_store(struct mte_vm *m, u64 ipa, size_t length)
{
	call_guest(m, guest_store, ipa, length, 0, 0);
}

void mte_guest_set_pattern(struct mte_vm *m, u64 ipa, size_t length, u64 pattern)
{
	call_guest(m, set_pattern, ipa, length, pattern, granule_at(ipa));
}

u64 mte_guest_mismatches(struct mte_vm *m, u64 ipa, size_t length, u64 pattern)
{
	return call_guest(m, guest_mismatches, ipa, length, pattern,
			  granule_at(ipa));
}

bool mte_expect_guest_sees(struct mte_vm *m, u64 ipa, size_t length, u64 pattern, const char *when)
{
	u64 bad = mte_guest_mismatches(m, ipa, length, pattern);

	return mte_expect(!bad, "%s: the guest sees %lu of %lu tags wrong",
			  when, (unsigned long)bad, length / MTE_GRANULE);
}

void mte_expect_tags(struct mte_vm *m, u64 ipa, size_t length, u64 pattern, const char *when)
{
	mte_expect_ioctl_reads(m, ipa, length, pattern, when);
	mte_expect_guest_sees(m, ipa, length, pattern, when);
}

/* A new mapping of @size bytes of memory with the tag MTE_STALE throughout */
static void *map_stale(size_t size, int advice)
{
	char *mem = map_aligned(size, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	unsigned long step, dczid;
	char *p;

	if (mem == MAP_FAILED)
		mte_die("no memory to dirty: %s", strerror(errno));
	madvise(mem, size, advice);
	if (mprotect(mem, size, PROT_READ | PROT_WRITE | PROT_MTE))
		mte_die("no PROT_MTE memory: %s", strerror(errno));

	/* DC GVA sets the tags of a whole block, where it is allowed. */
	asm("mrs	%0, dczid_el0" : "=r" (dczid));
	step = dczid & BIT(4) ? MTE_GRANULE : 4UL << (dczid & 0xf);

	for (p = mem; p < mem + size; p += step) {
		if (dczid & BIT(4))
			mte_guest_store_tag((uintptr_t)p, MTE_STALE);
		else
			asm volatile("sys #3, c7, c4, #3, %0"
				     : : "r" ((uintptr_t)p | MTE_STALE << 56)
				     : "memory");
	}

	return mem;
}

size_t mte_free_memory(void)
{
	unsigned long kib = 0;
	char line[128];
	FILE *f;

	f = fopen("/proc/meminfo", "r");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f) &&
	       sscanf(line, "MemFree: %lu", &kib) != 1)
		;
	fclose(f);

	return kib * 1024;
}

/* What the memory cgroups of this process leave it */
static size_t cgroup_room(void)
{
	char line[256], path[512], *end;
	size_t room = MEMORY_MAX, max, used;
	FILE *f;

	f = fopen("/proc/self/cgroup", "r");
	if (!f)
		return room;
	while (fgets(line, sizeof(line), f)) {
		/* The entry of version 2, from there up */
		if (strncmp(line, "0::/", 4))
			continue;
		line[strcspn(line, "\n")] = '\0';
		for (end = line + strlen(line); end > line + 3; *end = '\0') {
			snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max",
				 line + 3);
			max = mte_tunable(path);
			snprintf(path, sizeof(path),
				 "/sys/fs/cgroup%s/memory.current", line + 3);
			used = mte_tunable(path);
			/* "max" is no number. */
			if (max && max < used + room)
				room = max > used ? max - used : 0;
			end = strrchr(line + 3, '/');
		}
	}
	fclose(f);

	return room;
}

static struct frames remembered;

void mte_remember_frames(const void *addr, size_t size)
{
	if (!note_frames(&remembered, -1, addr, size))
		mte_skip("cannot read the pagemap: %s", strerror(errno));
}

size_t mte_remembered_frames(const void *addr, size_t size)
{
	long count = count_frames(&remembered, -1, addr, size);

	if (count < 0)
		mte_skip(FRAMES_HIDDEN);

	return count;
}

/* How much memory may be dirtied in all */
static size_t memory_budget(void)
{
	size_t size = mte_free_memory(), room = cgroup_room();

	if (size > MEMORY_MAX)
		size = MEMORY_MAX;
	if (size > room)
		size = room;

	return size;
}

bool mte_may_have(size_t size)
{
	return memory_budget() >= size + memory_reserve();
}

void mte_need_memory(size_t size)
{
	if (!mte_may_have(size))
		mte_skip("only %zu MiB of memory to be had", memory_budget() >> 20);
}

void mte_dirty_free_memory(void)
{
	size_t huge = 8 * MTE_BLOCK, base = 8 * MTE_BLOCK;
	size_t budget = memory_budget(), reserve = memory_reserve();
	void *huge_mem, *base_mem;

	/*
	 * What is freed last need not be what is allocated next: reach nearly
	 * all memory once, in huge pages as far as possible, to be quick. Base
	 * pages get the fragments, too. Later on it is enough to refresh what
	 * the cases themselves used. A second run of a case takes each page by
	 * itself, which is slow, but frees it the way that the case gets it.
	 */
	if (!verdict->memory_dirty) {
		mte_need_memory(huge + base);
		if (!verdict->runs)
			huge = budget / 8 * 7 & ~(MTE_BLOCK - 1);
		if (budget > huge + base + reserve)
			base = budget - huge - reserve;
	}
	huge_mem = map_stale(huge, MADV_HUGEPAGE);
	base_mem = map_stale(base, MADV_NOHUGEPAGE);
	if (!race_window_loaded()) {
		remembered.nr = 0;
		mte_remember_frames(huge_mem, huge);
		mte_remember_frames(base_mem, base);
	}

	munmap(base_mem, base);
	munmap(huge_mem, huge);
	verdict->memory_dirty = true;
}

void mte_tag_program_memory(struct mte_vm *m)
{
	size_t length = MAX_PROGRAM;
	u8 *zeros = calloc(1, length / MTE_GRANULE);
	/* Slot 0 starts at IPA 0 and is smaller: the copy ends behind it. */
	long ret = mte_write_tags(m, 0, zeros, length);

	if (ret <= 0 || ret == (long)length)
		mte_die("cannot set the tags of slot 0: %ld", ret);
	free(zeros);
}

void mte_vmm_touch(struct mte_vm *m, size_t length)
{
	size_t i;

	for (i = 0; i < length; i += MTE_PAGE)
		WRITE_ONCE(m->hva[i], 1);
}

void mte_vmm_set_pattern(void *addr, u64 ipa, size_t length, u64 pattern)
{
	set_pattern((uintptr_t)addr, length, pattern, granule_at(ipa));
}

u64 mte_vmm_mismatches(const void *addr, u64 ipa, size_t length, u64 pattern)
{
	return guest_mismatches((uintptr_t)addr, length, pattern,
				granule_at(ipa));
}

/*
 * A file of ramfs: of the file systems that are always there it is the one
 * whose pages, although they are in memory, are not known to carry tags. The mount
 * has no place in the file system, and ends with the file.
 */
int mte_open_file(size_t size)
{
	int fs = syscall(__NR_fsopen, "ramfs", 0), dir, fd;

	if (fs < 0)
		mte_skip("no ramfs: %s", strerror(errno));
	if (syscall(__NR_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0))
		mte_die("no ramfs: %s", strerror(errno));
	dir = syscall(__NR_fsmount, fs, 0, 0);
	fd = openat(dir, "file", O_RDWR | O_CREAT, 0600);
	close(dir);
	close(fs);
	if (fd < 0 || ftruncate(fd, size))
		mte_die("no file: %s", strerror(errno));

	return fd;
}

static bool is_huge(struct mte_vm *m)
{
	unsigned long start, end, kib;
	bool in_range = false, huge = false;
	char line[512];
	FILE *f;

	/* Only those that a PMD maps are counted. */
	if (mte_tunable(THP "hpage_pmd_size") > MTE_BLOCK)
		return mte_in_huge_page(m->hva) &&
		       mte_pfn(m->hva + MTE_BLOCK - MTE_PAGE) - mte_pfn(m->hva) ==
		       MTE_BLOCK / MTE_PAGE - 1;
	f = fopen("/proc/self/smaps", "r");
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			in_range = start <= (uintptr_t)m->hva &&
				   (uintptr_t)m->hva < end;
		else if (in_range && sscanf(line, "AnonHugePages: %lu", &kib) == 1)
			huge = kib >= MTE_BLOCK / 1024;
	}
	fclose(f);

	return huge;
}

void mte_need_huge_page(struct mte_vm *m)
{
	if (m->backing == MTE_THP && !is_huge(m))
		mte_run_again("no transparent huge page to be had");
}

u64 mte_pfn(const void *addr)
{
	struct frames f = {};
	u64 pfn;

	/* The stack is there, if that can be seen. */
	if (!note_frames(&f, -1, addr, MTE_PAGE) ||
	    !note_frames(&f, -1, __builtin_frame_address(0), MTE_PAGE) || !f.of[1])
		mte_skip(FRAMES_HIDDEN);
	pfn = f.of[0];
	free(f.of);

	return pfn;
}

static u64 page_flags(const void *addr)
{
	int fd = open("/proc/kpageflags", O_RDONLY);
	u64 pfn = mte_pfn(addr), flags = 0;

	if (fd < 0)
		mte_skip("cannot open kpageflags: %s", strerror(errno));
	if (!pfn || pread(fd, &flags, sizeof(flags), pfn * sizeof(flags)) !=
	    sizeof(flags))
		flags = 0;
	close(fd);

	return flags;
}

bool mte_in_huge_page(const void *addr)
{
	return page_flags(addr) & KPAGEFLAGS_THP;
}

bool mte_is_zero_page(const void *addr)
{
	return page_flags(addr) & KPAGEFLAGS_ZERO_PAGE;
}

bool mte_is_flagged(const void *addr)
{
	return page_flags(addr) & KPAGEFLAGS_ARCH_2;
}

void mte_page_out(void *addr, size_t length)
{
	int tries, cpus = 1;
	size_t i, in, pages = length / MTE_PAGE;
	u8 *resident = malloc(pages);
	cpu_set_t all;

	while (usable_cpu(cpus) >= 0)
		cpus++;
	sched_getaffinity(0, sizeof(all), &all);
	/*
	 * A page may be in use for a moment, or still be on its way to the lists
	 * that reclaim looks at. There each CPU puts its own pages only.
	 */
	for (tries = 0; tries < 100; tries++) {
		bind_to_cpu(0, tries % cpus);
		if (madvise(addr, length, MADV_PAGEOUT))
			mte_die("MADV_PAGEOUT: %s", strerror(errno));
		if (mincore(addr, length, resident))
			mte_die("mincore: %s", strerror(errno));
		for (i = in = 0; i < pages; i++)
			in += resident[i] & 1 || mte_pfn(addr + i * MTE_PAGE);
		if (!in)
			break;
		usleep(10000);
	}
	sched_setaffinity(0, sizeof(all), &all);
	free(resident);
	if (in)
		mte_run_again("%zu of %zu pages stay in memory", in, pages);
}

void mte_migrate_page(void *addr)
{
	bool undo = !access(UNPOISON, W_OK);
	u64 pfn = mte_pfn(addr);
	int tries, err = EBUSY;

	if (!undo && !getenv("MTE_TEST_SOFT_OFFLINE"))
		mte_skip("costs memory for good; set MTE_TEST_SOFT_OFFLINE to run it");
	/* A page may be in use for a moment. */
	for (tries = 0; tries < 100 && (err == EBUSY || err == EAGAIN); tries++) {
		err = madvise(addr, MTE_PAGE, MADV_SOFT_OFFLINE) ? errno : 0;
		if (err)
			usleep(10000);
	}
	if (err)
		mte_run_again("MADV_SOFT_OFFLINE: %s", strerror(err));
	if (undo && !write_number(UNPOISON, pfn))
		mte_die("cannot have page frame %#lx back: %s", (unsigned long)pfn,
			strerror(errno));
	/* It need not be mapped again before it is needed. */
	READ_ONCE(*(char *)addr);
	if (mte_pfn(addr) == pfn)
		mte_run_again("evidence void: the page is where it was");
}

/*
 * Evidence
 */

void mte_begin_counting_stale_pages(void)
{
	/* In any thread: one of the kernel may clear them for the guest. */
	if (race_window_loaded() &&
	    race_window_arm_once("mte_clear_page_tags", 0, 0))
		mte_die("cannot probe mte_clear_page_tags()");
}

void mte_end_counting_stale_pages(struct mte_vm *m)
{
	const char *what = "had stale tags to clear";
	unsigned long stale, of;

	if (race_window_loaded()) {
		of = race_window_hits();
		stale = race_window_stale();
		race_window_disarm();
	} else if (!verdict->failed) {
		of = m->size / MTE_PAGE;
		stale = mte_remembered_frames(m->hva, m->size);
		what = "are in frames that had stale tags at the start";
	} else {
		return;
	}
	ksft_print_msg("%lu of %lu pages %s\n", stale, of, what);
	if (!stale && !verdict->failed)
		mte_run_again("evidence void: no page had stale tags");
}

static int kernel_log = -1;

/* The next line that begins with @what and has @about in it; NULL if there is none */
static const char *next_line(const char *what, const char *about)
{
	static char record[1024];
	ssize_t length;
	char *text;

	for (;;) {
		length = read(kernel_log, record, sizeof(record) - 1);
		/* Overwritten before it was read: there is more. */
		if (length < 0 && errno == EPIPE)
			continue;
		if (length <= 0)
			return NULL;
		record[length] = '\0';
		text = strchr(record, ';');
		if (text && !strncmp(text + 1, what, strlen(what)) && strstr(text, about)) {
			text[strcspn(text, "\n")] = '\0';
			return text + 1;
		}
	}
}

bool mte_begin_watching_log(bool once)
{
	bool reported;

	kernel_log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK);
	if (kernel_log < 0)
		mte_skip("cannot read the kernel's log: %s", strerror(errno));
	reported = next_line("BUG: KASAN", "");
	lseek(kernel_log, 0, SEEK_END);
	if (once && !write_number("/sys/kernel/debug/clear_warn_once", 1))
		mte_skip("no clear_warn_once in debugfs");

	return reported;
}

void mte_end_watching_log(const char *what, const char *about)
{
	const char *line;

	while ((line = next_line(what, about)))
		mte_expect(false, "the kernel's log: %s", line);
	close(kernel_log);
}

bool mte_kernel_has(const char *symbol)
{
	char line[256], name[128];
	FILE *f = fopen("/proc/kallsyms", "r");
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "%*s %*s %127s", name) == 1 && !strcmp(name, symbol);
	if (f)
		fclose(f);

	return found;
}

void mte_need_blocks(struct mte_vm *m, bool blocks)
{
	/* What a PMD of stage 2 maps, as of stage 1 */
	size_t pages = m->size / MTE_PAGE, pmd = MTE_PAGE * (MTE_PAGE / 8);
	unsigned long before, exits;
	char path[80];

	if (blocks && mte_unit(m->backing) < pmd) {
		if (m->backing == MTE_THP || m->backing == MTE_HUGETLB)
			mte_skip("huge pages of %zu MiB would be needed for a block", pmd >> 20);
		return;
	}
	snprintf(path, sizeof(path), "/sys/kernel/debug/kvm/%d-%d/exits", getpid(), m->vm->fd);
	before = mte_tunable(path);
	mte_guest_load(m, MTE_REGION_IPA, m->size);
	exits = mte_tunable(path) - before;
	/* Where statistics cannot be read, stale tags cannot be seen either. */
	if (access(path, R_OK))
		return;
	ksft_print_msg("%lu exits for %zu pages\n", exits, pages);
	if (blocks ? exits > pages / 2 : exits < pages - 1)
		mte_run_again("evidence void: the memory is mapped in %s",
			      blocks ? "pages" : "blocks");
}

/*
 * Pages that are late
 */

int mte_open_userfaultfd(void *addr, size_t size)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register range = {
		.range = { (uintptr_t)addr, size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		mte_skip("no userfaultfd: %s", strerror(errno));
	if (ioctl(uffd, UFFDIO_REGISTER, &range))
		mte_die("UFFDIO_REGISTER: %s", strerror(errno));

	return uffd;
}

void *mte_await_userfault(int uffd, int timeout_ms)
{
	struct pollfd pollfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;
	ssize_t size;

	/* Who waited may be gone when it comes to the read. */
	do {
		if (poll(&pollfd, 1, timeout_ms) != 1)
			return NULL;
		size = read(uffd, &msg, sizeof(msg));
	} while (size < 0 && errno == EAGAIN);
	if (size != sizeof(msg) || msg.event != UFFD_EVENT_PAGEFAULT)
		return NULL;

	return (void *)(msg.arg.pagefault.address & ~(MTE_PAGE - 1));
}

void mte_serve_page(int uffd, void *page, const void *content)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)page,
		.src = (uintptr_t)content,
		.len = MTE_PAGE,
	};

	if (ioctl(uffd, UFFDIO_COPY, &copy) && errno != EEXIST)
		mte_die("UFFDIO_COPY: %s", strerror(errno));
}

u8 *mte_alloc_before_fault(size_t size)
{
	size_t room = (size + MTE_PAGE - 1) & ~(MTE_PAGE - 1);
	char *mem = kvm_mmap(room + MTE_PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1);

	if (mprotect(mem + room, MTE_PAGE, PROT_NONE))
		mte_die("mprotect: %s", strerror(errno));

	return (u8 *)mem + room - size;
}

/*
 * The second thread
 */

static void pin_to_cpu(int cpu)
{
	if (!bind_to_cpu(0, cpu))
		mte_skip("this race needs two CPUs");
}

static void *helper_main(void *arg)
{
	struct mte_helper *h = arg;
	int seen = 0;

	pin_to_cpu(1);
	__atomic_store_n(&h->tid, kvm_gettid(), __ATOMIC_RELEASE);
	for (;;) {
		while (__atomic_load_n(&h->step, __ATOMIC_ACQUIRE) == seen)
			;
		seen++;
		if (h->stop)
			return NULL;
		h->work(h);
		__atomic_store_n(&h->done, seen, __ATOMIC_RELEASE);
	}
}

void mte_helper_start(struct mte_helper *h)
{
	pin_to_cpu(0);
	kvm_pthread_create(&h->thread, NULL, helper_main, h);
	while (!__atomic_load_n(&h->tid, __ATOMIC_ACQUIRE))
		;
}

void mte_helper_go(struct mte_helper *h)
{
	__atomic_add_fetch(&h->step, 1, __ATOMIC_RELEASE);
}

void mte_helper_wait(struct mte_helper *h)
{
	while (__atomic_load_n(&h->done, __ATOMIC_ACQUIRE) != h->step)
		;
}

void mte_helper_end(struct mte_helper *h)
{
	h->stop = true;
	mte_helper_go(h);
	pthread_join(h->thread, NULL);
}

bool mte_race(struct mte_helper *h, const char *function, void (*meanwhile)(struct mte_helper *h))
{
	bool hit;

	if (race_window_arm_once(function, h->tid, RACE_HOLD_US))
		mte_die("cannot probe %s()", function);
	mte_helper_go(h);
	hit = race_window_wait_hit();
	meanwhile(h);
	race_window_release();
	mte_helper_wait(h);
	h->stale += race_window_stale();
	race_window_disarm();

	return hit;
}

/*
 * The API itself, and guests that are stopped half-way
 */

long mte_vm_add_mapping(struct mte_vm *m, void *mem, size_t size)
{
	int err = mte_set_slot(m->vm, MTE_REGION_SLOT, 0, MTE_REGION_IPA, mem, size);

	if (err)
		return err;

	m->backing = MTE_OWN;
	m->hva = mem;
	m->size = size;
	virt_map(m->vm, MTE_REGION_IPA, MTE_REGION_IPA, size / m->vm->page_size);

	return 0;
}

void *mte_vm_program_memory(struct mte_vm *m, size_t *size)
{
	size_t room = MAX_PROGRAM;
	u8 *tags = malloc(room / MTE_GRANULE);
	long ret = mte_read_tags(m, 0, tags, room);

	/* It starts at IPA 0, and a hole follows it. */
	if (ret <= 0 || ret == (long)room)
		mte_die("cannot find out the size of slot 0: %ld", ret);
	free(tags);
	*size = ret;

	return addr_gpa2hva(m->vm, 0);
}

void mte_guest_start(struct mte_vm *m, mte_guest_function function, u64 arg0,
		     u64 arg1, u64 arg2, u64 arg3)
{
	vcpu_set_reg(m->vcpu, ARM64_CORE_REG(regs.regs[0]), arg0);
	vcpu_set_reg(m->vcpu, ARM64_CORE_REG(regs.regs[1]), arg1);
	vcpu_set_reg(m->vcpu, ARM64_CORE_REG(regs.regs[2]), arg2);
	vcpu_set_reg(m->vcpu, ARM64_CORE_REG(regs.regs[3]), arg3);
	vcpu_set_reg(m->vcpu, ARM64_CORE_REG(regs.regs[4]), (uintptr_t)function);
}

struct mte_stop mte_guest_run(struct mte_vm *m)
{
	struct kvm_run *run = m->vcpu->run;
	struct mte_stop stop;
	int ret;

	do {
		ret = ioctl(m->vcpu->fd, KVM_RUN, NULL);
	} while (ret && errno == EINTR);

	if (ret) {
		stop.why = MTE_RUN_FAILED;
		stop.value = errno;
		return stop;
	}

	if (run->exit_reason != KVM_EXIT_MMIO || !run->mmio.is_write)
		mte_die("unexpected exit from the guest, reason %u", run->exit_reason);

	memcpy(&stop.value, run->mmio.data, sizeof(stop.value));
	switch (run->mmio.phys_addr) {
	case DOORBELL_RESULT:
		stop.why = MTE_RETURNED;
		break;
	case DOORBELL_REPORT:
		stop.why = MTE_REPORTED;
		break;
	case DOORBELL_EXCEPTION:
		stop.why = MTE_EXCEPTION;
		break;
	default:
		mte_die("unexpected write of the guest to %#lx",
			(unsigned long)run->mmio.phys_addr);
	}

	return stop;
}

struct mte_stop mte_guest_try(struct mte_vm *m, mte_guest_function function,
			      u64 arg0, u64 arg1, u64 *pstate)
{
	u64 entry_pstate, entry_sp;
	struct mte_stop stop;

	vcpu_run_complete_io(m->vcpu);
	entry_pstate = vcpu_get_reg(m->vcpu, ARM64_CORE_REG(regs.pstate));
	entry_sp = vcpu_get_reg(m->vcpu, ARM64_CORE_REG(sp_el1));

	mte_guest_start(m, function, arg0, arg1, 0, 0);
	stop = mte_guest_run(m);
	if (stop.why != MTE_EXCEPTION)
		return stop;

	if (pstate)
		*pstate = vcpu_get_reg(m->vcpu, ARM64_CORE_REG(regs.pstate));
	/* Back to where every call starts */
	vcpu_run_complete_io(m->vcpu);
	vcpu_set_reg(m->vcpu, ARM64_CORE_REG(regs.pc), (uintptr_t)mte_guest_entry);
	vcpu_set_reg(m->vcpu, ARM64_CORE_REG(regs.pstate), entry_pstate);
	vcpu_set_reg(m->vcpu, ARM64_CORE_REG(sp_el1), entry_sp);
	mte_guest_run(m);

	return stop;
}
