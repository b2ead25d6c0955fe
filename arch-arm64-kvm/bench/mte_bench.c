// SPDX-License-Identifier: GPL-2.0
/*
 * What the tags of pages cost: the first and only process of a VM in which the
 * virtual counter ticks once for each instruction (scripts/bench sets that up).
 *
 * Prints a line "bench| COST NAME (unit)" for each row of the table at the end
 * of this file, "bench| - NAME (unit): reason" for one that this kernel cannot
 * do, and "bench| done".
 *
 * A row is run until the paths are warm, then a number of times, and the
 * minimum counts: what is above it are timer ticks and other strangers. A
 * "tax" is what memory with tags costs more than the same memory without.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/kvm.h>

#ifndef PROT_MTE
#define PROT_MTE	0x20
#endif
#ifndef MAP_HUGE_2MB
#define MAP_HUGE_2MB	(21 << 26)
#endif

/* The ABI, spelt out: the headers of the build machine may not have it. */
#define CAP_ARM_MTE	205

struct copy_tags {
	uint64_t guest_ipa;
	uint64_t length;
	void *addr;
	uint64_t flags;
	uint64_t reserved[2];
};

#define COPY_TAGS	_IOR(KVMIO, 0xb4, struct copy_tags)
#define TO_GUEST	0
#define FROM_GUEST	1

#define PAGE		4096UL
#define BLOCK		(2UL << 20)
#define PAGES_PER_BLOCK	(BLOCK / PAGE)
#define TAGS_PER_PAGE	(PAGE / 16)
/* How many pages, or THPs, one measurement goes over */
#define PAGES		256UL
#define THPS		8UL

#define WARM_UP		2
#define ROUNDS		5

/* By the guest's clock, which is 10^9 instructions a second */
#define ROW_TIMEOUT_S	10

#define CODE_IPA	(1UL << 30)
#define DOORBELL_IPA	(2UL << 30)
#define REGION_IPA	(4UL << 30)

/*
 * What a row needs and this kernel does not have ends the row, not the run.
 * All rows run in processes of their own, so nothing has to be cleaned up.
 */
#define NOT_HERE	77

static char *reason;

static void give_up(int status, const char *fmt, va_list ap)
{
	int saved_errno = errno;
	char text[160];

	vsnprintf(text, sizeof(text), fmt, ap);
	snprintf(reason, PAGE, "%s%s%s", text, saved_errno ? ": " : "",
		 saved_errno ? strerror(saved_errno) : "");
	_exit(status);
}

static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	give_up(EXIT_FAILURE, fmt, ap);
	va_end(ap);
}

static void not_here(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	give_up(NOT_HERE, fmt, ap);
	va_end(ap);
}

/*
 * Measuring
 */

static inline uint64_t now(void)
{
	uint64_t ticks;

	asm volatile("isb\n"
		     "mrs	%0, cntvct_el0" : "=r" (ticks) : : "memory");

	return ticks;
}

struct work {
	/* Puts things back to where @run starts from; not counted */
	void (*prepare)(struct work *w);
	void (*run)(struct work *w);

	char *mem;
	size_t size;
	size_t stride;
	int prot;
	struct vm *vm;
	struct copy_tags copy;
};

static double measure(struct work *w)
{
	uint64_t start, ticks, empty = UINT64_MAX, best = UINT64_MAX;
	int i;

	for (i = 0; i < WARM_UP + ROUNDS; i++) {
		start = now();
		ticks = now() - start;
		if (i >= WARM_UP && ticks < empty)
			empty = ticks;

		if (w->prepare)
			w->prepare(w);
		start = now();
		w->run(w);
		ticks = now() - start;
		if (i >= WARM_UP && ticks < best)
			best = ticks;
	}

	return best - empty;
}

/*
 * Memory
 */

enum backing { ANON, THP, MEMFD, HUGETLB };

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);

	return ok;
}

/* Bytes of huge pages in the mapping that starts at @mem */
static size_t huge_bytes(char *mem)
{
	unsigned long start, end, kib = 0;
	bool here = false;
	char line[256];
	FILE *f = fopen("/proc/self/smaps", "r");

	if (!f)
		die("no smaps");
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx", &start, &end) == 2)
			here = start == (unsigned long)mem;
		else if (here && sscanf(line, "AnonHugePages: %lu", &kib) == 1)
			break;
	}
	fclose(f);

	return kib * 1024;
}

static void touch(char *mem, size_t size)
{
	size_t i;

	for (i = 0; i < size; i += PAGE)
		*(volatile char *)(mem + i) = 1;
}

static char *map(enum backing backing, size_t size, int prot)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS, fd = -1;
	char *room, *mem;

	/* A guard on both sides keeps the mapping from being merged. */
	room = mmap(NULL, size + 2 * BLOCK, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		die("no address space");
	room = (char *)(((uintptr_t)room + BLOCK) & ~(BLOCK - 1));

	if (backing == HUGETLB) {
		if (!write_text("/proc/sys/vm/nr_hugepages", "1"))
			not_here("no hugetlb pages");
		flags |= MAP_HUGETLB | MAP_HUGE_2MB;
	} else if (backing == MEMFD) {
		fd = syscall(SYS_memfd_create, "mte_bench", 0);
		if (fd < 0 || ftruncate(fd, size))
			die("memfd");
		flags = MAP_SHARED;
	}

	mem = mmap(room, size, prot, flags | MAP_FIXED, fd, 0);
	if (mem == MAP_FAILED)
		not_here("cannot map the memory");
	if (backing == ANON && madvise(mem, size, MADV_NOHUGEPAGE))
		die("MADV_NOHUGEPAGE");
	if (backing == THP && madvise(mem, size, MADV_HUGEPAGE))
		die("MADV_HUGEPAGE");

	return mem;
}

static void expect_huge(char *mem, size_t size)
{
	errno = 0;
	if (huge_bytes(mem) != size)
		die("%zu of %zu KiB in huge pages", huge_bytes(mem) / 1024, size / 1024);
}

/*
 * VMs
 *
 * The guest runs with its MMU off, so that its addresses are IPAs, and does
 * nothing but to touch memory: one store every x2 bytes, x1 times.
 */

struct vm {
	int fd, vcpu;
	struct kvm_run *run;
};

asm("	.pushsection .rodata\n"
"	.balign	4\n"
"	.globl	guest_code, guest_code_end\n"
"guest_code:\n"
"1:	str	x3, [x0]\n"
"	add	x0, x0, x2\n"
"	subs	x1, x1, #1\n"
"	b.ne	1b\n"
"	str	xzr, [x4]\n"
"	b	1b\n"
"guest_code_end:\n"
"	.popsection\n");

extern const char guest_code[], guest_code_end[];

static void set_reg(struct vm *vm, unsigned long offset, uint64_t value)
{
	struct kvm_one_reg reg = {
		.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
		      offset / sizeof(uint32_t),
		.addr = (uintptr_t)&value,
	};

	if (ioctl(vm->vcpu, KVM_SET_ONE_REG, &reg))
		die("KVM_SET_ONE_REG");
}

#define X(n)	(offsetof(struct kvm_regs, regs.regs) + 8 * (n))

static void add_slot(struct vm *vm, int slot, uint64_t ipa, void *mem, size_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = ipa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)mem,
	};

	if (ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region))
		not_here("KVM does not take this memory");
}

static struct vm *create_vm(bool mte, char *mem, size_t size)
{
	struct kvm_enable_cap cap = { .cap = CAP_ARM_MTE };
	struct vm *vm = calloc(1, sizeof(*vm));
	int kvm = open("/dev/kvm", O_RDWR);
	struct kvm_vcpu_init init;
	char *code;

	if (kvm < 0)
		die("/dev/kvm");
	if (mte && ioctl(kvm, KVM_CHECK_EXTENSION, CAP_ARM_MTE) <= 0)
		not_here("KVM has no MTE");
	vm->fd = ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm->fd < 0)
		die("KVM_CREATE_VM");
	if (mte && ioctl(vm->fd, KVM_ENABLE_CAP, &cap))
		die("KVM_ENABLE_CAP");

	code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memcpy(code, guest_code, guest_code_end - guest_code);
	add_slot(vm, 0, CODE_IPA, code, PAGE);
	add_slot(vm, 1, REGION_IPA, mem, size);

	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	if (vm->vcpu < 0 || ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init) ||
	    ioctl(vm->vcpu, KVM_ARM_VCPU_INIT, &init))
		die("no vCPU");
	vm->run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0),
		       PROT_READ | PROT_WRITE, MAP_SHARED, vm->vcpu, 0);
	if (vm->run == MAP_FAILED)
		die("no kvm_run");
	set_reg(vm, offsetof(struct kvm_regs, regs.pc), CODE_IPA);
	set_reg(vm, X(4), DOORBELL_IPA);

	return vm;
}

/* To be called before each run_guest(): the guest waits at its doorbell. */
static void aim_guest(struct vm *vm, size_t size, size_t stride)
{
	set_reg(vm, X(0), REGION_IPA);
	set_reg(vm, X(1), size / stride);
	set_reg(vm, X(2), stride);
}

static void run_guest(struct vm *vm)
{
	while (ioctl(vm->vcpu, KVM_RUN, NULL)) {
		if (errno != EINTR)
			die("KVM_RUN");
	}
	if (vm->run->exit_reason != KVM_EXIT_MMIO ||
	    vm->run->mmio.phys_addr != DOORBELL_IPA)
		die("exit reason %u, address %#llx", vm->run->exit_reason,
		    vm->run->mmio.phys_addr);
}

/*
 * KVM_ARM_MTE_COPY_TAGS: per page
 */

/* Bits of a row's argument */
#define WRITE		1	/* to the guest */
#define ONE_PAGE	2
#define UNTAGGED	4	/* touched by the VMM, but without tags */
#define UNTOUCHED	8	/* nobody ever touched it */

static void run_copy(struct work *w)
{
	if (ioctl(w->vm->fd, COPY_TAGS, &w->copy) != (int)w->copy.length)
		die("COPY_TAGS");
}

/* A write gives pages tags; read or not, new ones are needed next time. */
static void renew_memory(struct work *w)
{
	if (madvise(w->mem, w->size, MADV_DONTNEED))
		die("MADV_DONTNEED");
}

static void renew_and_touch_memory(struct work *w)
{
	renew_memory(w);
	touch(w->mem, w->size);
}

static double copy_tags(enum backing backing, unsigned int how)
{
	size_t pages = how & ONE_PAGE ? 1 : PAGES, i;
	uint8_t *tags = (uint8_t *)map(ANON, BLOCK, PROT_READ | PROT_WRITE);
	struct work w = {
		.run = run_copy,
		.mem = map(backing, BLOCK, PROT_READ | PROT_WRITE),
		.size = BLOCK,
		.copy = {
			.guest_ipa = REGION_IPA,
			.length = BLOCK,
			.addr = tags,
			.flags = TO_GUEST,
		},
	};

	w.vm = create_vm(true, w.mem, w.size);
	for (i = 0; i < PAGES_PER_BLOCK * TAGS_PER_PAGE; i++)
		tags[i] = i * 7 & 0xf;

	touch(w.mem, w.size);
	if (how & UNTOUCHED)
		w.prepare = renew_memory;
	else if (how & UNTAGGED && how & WRITE)
		w.prepare = renew_and_touch_memory;
	else if (!(how & UNTAGGED))
		run_copy(&w);

	if (backing == THP)
		expect_huge(w.mem, w.size);

	w.copy.length = pages * PAGE;
	w.copy.flags = how & WRITE ? TO_GUEST : FROM_GUEST;

	return measure(&w) / pages;
}

/*
 * All that follows is per page, or, for THPs, per THP.
 */

static size_t unit(enum backing backing)
{
	return backing == THP ? BLOCK : PAGE;
}

static size_t units(enum backing backing)
{
	return backing == THP ? THPS : PAGES;
}

/* Memory for @w that is there, in the pages that the row is about */
static void map_and_touch(struct work *w, enum backing backing, int prot)
{
	w->stride = unit(backing);
	w->size = units(backing) * w->stride;
	w->prot = prot;
	w->mem = map(backing, w->size, prot);
	touch(w->mem, w->size);
	if (backing == THP)
		expect_huge(w->mem, w->size);
}

/* The first touch of PROT_MTE memory */
static void run_touch(struct work *w)
{
	touch(w->mem, w->size);
}

static double user_first_touch(enum backing backing, unsigned int how)
{
	struct work w = { .prepare = renew_memory, .run = run_touch };

	(void)how;
	map_and_touch(&w, backing, PROT_READ | PROT_WRITE | PROT_MTE);

	return measure(&w) / units(backing);
}

/* A guest's first touch of memory, with or without a page there already */
static void renew_guest_memory(struct work *w)
{
	renew_memory(w);
	aim_guest(w->vm, w->size, w->stride);
}

static void renew_and_touch_guest_memory(struct work *w)
{
	renew_and_touch_memory(w);
	aim_guest(w->vm, w->size, w->stride);
}

static void run_vcpu(struct work *w)
{
	run_guest(w->vm);
}

static double guest_first_touch(enum backing backing, unsigned int how)
{
	struct work w = {
		.prepare = how & UNTAGGED ? renew_and_touch_guest_memory :
			   renew_guest_memory,
		.run = run_vcpu,
	};

	map_and_touch(&w, backing, PROT_READ | PROT_WRITE);
	w.vm = create_vm(true, w.mem, w.size);

	return measure(&w) / units(backing);
}

/*
 * mprotect(PROT_MTE) on memory in use, for the first time. It cannot be taken
 * back, hence the new mapping.
 */
static void map_without_mte(struct work *w)
{
	if (w->mem)
		munmap(w->mem, w->size);
	map_and_touch(w, w->stride == PAGE ? ANON : THP, PROT_READ | PROT_WRITE);
}

static void run_mprotect_mte(struct work *w)
{
	if (mprotect(w->mem, w->size, w->prot | PROT_MTE))
		die("mprotect");
}

static double first_prot_mte(enum backing backing, unsigned int how)
{
	struct work w = {
		.prepare = map_without_mte,
		.run = run_mprotect_mte,
		.stride = unit(backing),
	};

	(void)how;

	return measure(&w) / units(backing);
}

/* Taxes */
static void run_mprotect_twice(struct work *w)
{
	if (mprotect(w->mem, w->size, w->prot & ~PROT_WRITE) ||
	    mprotect(w->mem, w->size, w->prot))
		die("mprotect");
}

static double mprotect_cost(enum backing backing, int prot)
{
	struct work w = { .run = run_mprotect_twice };

	map_and_touch(&w, backing, prot);

	return measure(&w) / 2 / units(backing);
}

static double mprotect_tax(enum backing backing, unsigned int how)
{
	(void)how;

	return mprotect_cost(backing, PROT_READ | PROT_WRITE | PROT_MTE) -
	       mprotect_cost(backing, PROT_READ | PROT_WRITE);
}

static void run_fork(struct work *w)
{
	pid_t pid = fork();

	(void)w;
	if (!pid)
		_exit(0);
	if (pid < 0)
		die("fork");
}

static void wait_for_child(struct work *w)
{
	(void)w;
	while (wait(NULL) > 0)
		;
}

static double fork_cost(enum backing backing, int prot)
{
	struct work w = { .prepare = wait_for_child, .run = run_fork };
	double cost;

	map_and_touch(&w, backing, prot);
	cost = measure(&w) / units(backing);
	wait_for_child(&w);
	munmap(w.mem, w.size);

	return cost;
}

static double fork_tax(enum backing backing, unsigned int how)
{
	(void)how;

	return fork_cost(backing, PROT_READ | PROT_WRITE | PROT_MTE) -
	       fork_cost(backing, PROT_READ | PROT_WRITE);
}

/* Everything goes out of stage 2, by notifiers; the VMM keeps its pages. */
static void unmap_stage2(struct work *w)
{
	if (mprotect(w->mem, w->size, PROT_READ) ||
	    mprotect(w->mem, w->size, PROT_READ | PROT_WRITE))
		die("mprotect");
	touch(w->mem, w->size);
	aim_guest(w->vm, w->size, w->stride);
}

static double refault_cost(enum backing backing, bool mte)
{
	struct work w = { .prepare = unmap_stage2, .run = run_vcpu };
	double cost;

	map_and_touch(&w, backing, PROT_READ | PROT_WRITE);
	w.vm = create_vm(mte, w.mem, w.size);
	cost = measure(&w);
	if (backing == THP)
		expect_huge(w.mem, w.size);

	return cost / units(backing);
}

static double refault_tax(enum backing backing, unsigned int how)
{
	(void)how;

	return refault_cost(backing, true) - refault_cost(backing, false);
}

static const struct {
	const char *name;
	double (*cost)(enum backing backing, unsigned int how);
	enum backing backing;
	unsigned int how;
} rows[] = {
	{ "read anon, 256 pages (page)",	copy_tags, ANON },
	{ "read thp, 256 pages (page)",		copy_tags, THP },
	{ "read memfd, 256 pages (page)",	copy_tags, MEMFD },
	{ "read hugetlb, 256 pages (page)",	copy_tags, HUGETLB },
	{ "write anon, 256 pages (page)",	copy_tags, ANON, WRITE },
	{ "write thp, 256 pages (page)",	copy_tags, THP, WRITE },
	{ "write memfd, 256 pages (page)",	copy_tags, MEMFD, WRITE },
	{ "write hugetlb, 256 pages (page)",	copy_tags, HUGETLB, WRITE },
	{ "read untagged anon, 256 pages (page)",	copy_tags, ANON, UNTAGGED },
	{ "read untagged thp, 256 pages (page)",	copy_tags, THP, UNTAGGED },
	{ "read untagged memfd, 256 pages (page)",	copy_tags, MEMFD, UNTAGGED },
	{ "read untagged hugetlb, 256 pages (page)",	copy_tags, HUGETLB, UNTAGGED },
	{ "read untouched anon, 256 pages (page)",	copy_tags, ANON, UNTOUCHED },
	{ "write untagged anon, 256 pages (page)",	copy_tags, ANON, WRITE | UNTAGGED },
	{ "write untagged thp, 256 pages (page)",	copy_tags, THP, WRITE | UNTAGGED },
	{ "write untouched anon, 256 pages (page)",	copy_tags, ANON, WRITE | UNTOUCHED },
	{ "write untouched thp, 256 pages (page)",	copy_tags, THP, WRITE | UNTOUCHED },
	{ "read anon, 1 page (page)",		copy_tags, ANON, ONE_PAGE },
	{ "read thp, 1 page (page)",		copy_tags, THP, ONE_PAGE },
	{ "read memfd, 1 page (page)",		copy_tags, MEMFD, ONE_PAGE },
	{ "read hugetlb, 1 page (page)",	copy_tags, HUGETLB, ONE_PAGE },
	{ "write anon, 1 page (page)",		copy_tags, ANON, WRITE | ONE_PAGE },
	{ "write thp, 1 page (page)",		copy_tags, THP, WRITE | ONE_PAGE },
	{ "write memfd, 1 page (page)",		copy_tags, MEMFD, WRITE | ONE_PAGE },
	{ "write hugetlb, 1 page (page)",	copy_tags, HUGETLB, WRITE | ONE_PAGE },
	{ "read untagged anon, 1 page (page)",	copy_tags, ANON, UNTAGGED | ONE_PAGE },

	{ "mprotect tax, thp (THP)",		mprotect_tax, THP },
	{ "mprotect tax, anon (page)",		mprotect_tax, ANON },
	{ "fork tax, thp (THP)",		fork_tax, THP },
	{ "fork tax, anon (page)",		fork_tax, ANON },
	{ "stage-2 refault tax, thp (THP)",	refault_tax, THP },
	{ "stage-2 refault tax, anon (page)",	refault_tax, ANON },

	{ "first touch, user anon (page)",	user_first_touch, ANON },
	{ "first touch, user thp (THP)",	user_first_touch, THP },
	{ "first touch, guest anon (page)",	guest_first_touch, ANON },
	{ "first touch, guest thp (THP)",	guest_first_touch, THP },
	{ "first touch, guest anon there (page)",	guest_first_touch, ANON, UNTAGGED },
	{ "first touch, guest thp there (THP)",	guest_first_touch, THP, UNTAGGED },
	{ "first PROT_MTE, anon (page)",	first_prot_mte, ANON },
	{ "first PROT_MTE, thp (THP)",		first_prot_mte, THP },
};

static void run_row(unsigned int i, double *cost)
{
	struct sched_param prio = { .sched_priority = 1 };
	int status;
	pid_t pid;

	*cost = 0;
	strcpy(reason, "died");
	fflush(stdout);
	pid = fork();
	if (!pid) {
		alarm(ROW_TIMEOUT_S);
		/* Its own children do not get in its way, nor kernel threads. */
		if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &prio))
			die("sched_setscheduler");
		*cost = rows[i].cost(rows[i].backing, rows[i].how);
		_exit(EXIT_SUCCESS);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		status = -1;
	write_text("/proc/sys/vm/nr_hugepages", "0");

	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS)
		printf("bench| %.1f %s\n", *cost, rows[i].name);
	else if (WIFEXITED(status) && WEXITSTATUS(status) == NOT_HERE)
		printf("bench| - %s: %s\n", rows[i].name, reason);
	else
		printf("bench| failed %s: %s\n", rows[i].name, reason);
}

int main(void)
{
	/* What the kernel does not know of its command line is in here. */
	const char *only = getenv("row");
	double *cost = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned int i;

	reason = (char *)cost + PAGE;
	mkdir("/proc", 0755);
	mkdir("/dev", 0755);
	if (mount("proc", "/proc", "proc", 0, NULL) ||
	    mount("dev", "/dev", "devtmpfs", 0, NULL))
		printf("bench| failed to mount proc or devtmpfs: %s\n", strerror(errno));
	write_text("/proc/sys/kernel/sched_rt_runtime_us", "-1");

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (!only || strstr(rows[i].name, only))
			run_row(i, cost);
	}
	printf("bench| done\n");
	fflush(stdout);
	sync();
	reboot(RB_POWER_OFF);

	return 0;
}
