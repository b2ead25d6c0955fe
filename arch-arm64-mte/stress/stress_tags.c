// SPDX-License-Identifier: GPL-2.0
/*
 * An oracle for the tags and data of memory
 *
 * Processes own areas of memory of all kinds and know what each granule of them must
 * contain: a tag and a datum. They do random sequences of whatever moves, copies,
 * splits, swaps, protects or frees memory, and look after each step:
 *
 * - nobody_sees_a_wrong_tag_or_datum: no tag that its owner did not set is seen, no
 *   tag and no datum is lost.
 *
 * A sequence is made from a seed. One that fails is cut to the shortest that still
 * fails, and printed. Two processes work at the same time; in every other sequence a
 * thread gives harmless advice on the memory meanwhile. A forked child works on its
 * copy of private memory, and is the owner of the shared memory, until it has ended.
 *
 * In the environment:
 *	MTE_STRESS_SECONDS	for how long (10)
 *	MTE_STRESS_SEED		of the first sequence (1)
 *	MTE_STRESS_STEPS	"3,7,9": no other steps, of this seed alone
 *	MTE_STRESS_WITHOUT	names of operations and kinds that are left out
 */
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <linux/falloc.h>
#include <linux/userfaultfd.h>

#include "mte_stress.h"
#include "mte_vm.h"

/* What the C library may not know */
#define ADVICE_COLD		20
#define ADVICE_PAGEOUT		21
#define ADVICE_POPULATE_READ	22
#define ADVICE_POPULATE_WRITE	23
#define ADVICE_DONTNEED_LOCKED	24
#define ADVICE_COLLAPSE		25
#define MOVE_DONTUNMAP		4
#define PEEK_TAGS		33
#define POKE_TAGS		34
#define MAP_HUGE_2M		(21 << 26)
#define MFD_HUGE_2M		(4U | 21 << 26)

struct move_args {
	u64 dst, src, len, mode;
	int64_t move;
};
#define MOVE_PAGES_IOCTL	_IOWR(0xaa, 0x05, struct move_args)

#define THP_SETTINGS		"/sys/kernel/mm/transparent_hugepage/"
#define KSM_SETTINGS		"/sys/kernel/mm/ksm/"
#define HUGETLB_POOL		"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"
#define HUGE			(2UL << 20)

#define WORKERS			2
#define MAX_AREAS		5
#define STEPS			48
#define SWAP_BYTES		(256UL << 20)
#define DEVICE_BYTES		(4UL << 20)
#define HOSTILE_CALLS		64
#define HANG_SECONDS		200
/* Of many pages not all granules are written and looked at each time. */
#define FEW_PAGES		32
#define STRIDE			16
#define SHRINK_SECONDS		40
#define MAX_REPORTS		6

enum kind { ANON, THP, MEMFD, MEMFD_THP, HUGETLB, HUGETLB_FD, NR_KINDS };

static const char * const kind_names[] = {
	"anon", "thp", "memfd", "memfd-thp", "hugetlb", "hugetlb-memfd"
};

static bool kind_works[NR_KINDS];
/* Older kernels have no tags in hugetlb memory, but for guests. */
static int prot_mte_of[NR_KINDS];

struct area {
	enum kind kind;
	int fd;
	bool shared;		/* all processes see the same content */
	char *mem;
	u32 pages;
	u8 *tags, *data;	/* what each granule must have; shared if the content is */
	u8 *prot;		/* of each page, in this process */
	u8 *lazy;		/* the page was freed by MADV_FREE: its content, or zeros */
};

/* What the processes of one worker tell each other */
struct result {
	char text[256];
	int step;		/* in which it failed */
	u64 progress;
	u64 tried[64], done[64];
	u64 hostile;		/* calls */
};

struct step {
	const struct operation *op;
	struct area *a;
	u32 first, n;		/* pages */
	struct rng rng;
	u64 number;
};

struct operation {
	const char *name;
	unsigned int weight;
	bool (*run)(struct step *s);
	int arg;
	unsigned int flags;
};
#define NOT_IN_CHILD	1
#define ANY_RANGE	2	/* of hugetlb memory, not in whole huge pages */

static size_t ps, gpp;		/* page size, granules in a page */
static int swap_id = -1, device_id = -1, worker;
static u64 seed;
static struct result *res;
static struct area areas[MAX_AREAS];
static unsigned int nr_areas;
static pid_t child;		/* that owns the shared memory, or 0 */
static bool is_child;
static volatile bool noise_ends;
static const char *left_out;

static void __attribute__((noreturn, format(printf, 1, 2))) fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (!res->text[0])
		vsnprintf(res->text, sizeof(res->text), format, args);
	va_end(args);
	_exit(1);
}

static char *page_of(const struct area *a, u32 page)
{
	return a->mem + page * ps;
}

static u64 word_of(u8 datum)
{
	return datum * 0x0101010101010101;
}

/*
 * Look at one granule in @stride of a page. Tags can be seen only with PROT_MTE. Returns
 * whether all is as it must be, or as in a page of zeros, if @zeros; @where is the first
 * granule that is not.
 */
static bool granules_match(const struct area *a, u32 page, bool zeros, u32 stride, u32 *where)
{
	size_t g;

	for (g = page % stride; g < gpp; g += stride) {
		const char *p = page_of(a, page) + g * GRANULE;
		size_t at = page * gpp + g;
		u64 want = zeros ? 0 : word_of(a->data[at]);

		*where = g;
		if (*(const volatile u64 *)p != want)
			return false;
		if (a->prot[page] & PROT_MTE && get_tag(p) != (zeros ? 0 : a->tags[at]))
			return false;
	}
	return true;
}

static bool page_matches(const struct area *a, u32 page, bool zeros, u32 *where)
{
	return granules_match(a, page, zeros, 1, where);
}

static void wrong(const struct area *a, u32 page, u32 g)
{
	const char *p = page_of(a, page) + g * GRANULE;
	size_t at = page * gpp + g;
	u8 tag = a->prot[page] & PROT_MTE ? get_tag(p) : a->tags[at];
	u64 datum = *(const volatile u64 *)p;

	if (datum != word_of(a->data[at]))
		fail("%s%d page %u granule %u: datum %016lx, not %016lx (tag %x, not %x)%s",
		     kind_names[a->kind], (int)(a - areas), page, g, datum,
		     word_of(a->data[at]), tag, a->tags[at], is_child ? ", in a child" : "");
	fail("%s%d page %u granule %u: %s tag: %x, not %x%s", kind_names[a->kind],
	     (int)(a - areas), page, g, !tag ? "lost" : a->tags[at] ? "wrong" : "stale",
	     tag, a->tags[at], is_child ? ", in a child" : "");
}

static void verify_page(const struct area *a, u32 page, u32 stride)
{
	u32 where, ignored;

	if (!(a->prot[page] & PROT_READ) || granules_match(a, page, false, stride, &where))
		return;
	if (a->lazy[page] && page_matches(a, page, true, &ignored))
		return;
	wrong(a, page, where);
}

static void verify(const struct area *a, u32 first, u32 n, u32 stride)
{
	while (n--)
		verify_page(a, first++, stride);
}

static void expect_zeros(struct area *a, u32 first, u32 n)
{
	memset(a->tags + first * gpp, 0, n * gpp);
	memset(a->data + first * gpp, 0, n * gpp);
	memset(a->lazy + first, 0, n);
}

/* From now on the page is not freed behind our back: it was, or it is written to. */
static void settle(struct area *a, u32 page)
{
	u32 where;

	if (!a->lazy[page])
		return;
	__atomic_fetch_add((int *)page_of(a, page), 0, __ATOMIC_SEQ_CST);
	a->lazy[page] = 0;
	if (page_matches(a, page, false, &where))
		return;
	if (!page_matches(a, page, true, &where))
		wrong(a, page, where);
	expect_zeros(a, page, 1);
}

static bool all_have(const struct area *a, u32 first, u32 n, u8 prot)
{
	while (n--)
		if ((a->prot[first++] & prot) != prot)
			return false;
	return true;
}

/* The first page of a step whose content is certain and that has this protection, or -1 */
static int certain_page(const struct step *s, u8 prot)
{
	u32 page = s->first + s->rng.state % s->n;

	return !s->a->lazy[page] && all_have(s->a, page, 1, prot) ? (int)page : -1;
}

static bool reap(void)
{
	int status;

	if (!child)
		return true;
	if (waitpid(child, &status, 0) != child)
		fail("no child to wait for: %s", strerror(errno));
	child = 0;
	if (WIFSIGNALED(status))
		fail("a child was killed by signal %d", WTERMSIG(status));
	if (WEXITSTATUS(status))
		_exit(1);
	return true;
}

#include "kvm_steps.h"

static bool do_write(struct step *s)
{
	struct area *a = s->a;
	bool tags = s->op->arg & 1, data = s->op->arg & 2, same = s->op->arg & 4;
	u8 datum = 1 + below(&s->rng, 3);
	bool some = one_in(&s->rng, 3), done = false;
	u32 page;
	u32 stride = s->n > FEW_PAGES ? STRIDE : 1;
	size_t g;

	for (page = s->first; page < s->first + s->n; page++) {
		if (!all_have(a, page, 1, RW))
			continue;
		settle(a, page);
		for (g = page % stride; g < gpp; g += stride) {
			char *p = page_of(a, page) + g * GRANULE;
			size_t at = page * gpp + g;
			u64 r = rng_next(&s->rng);

			if (some && r >> 60)
				continue;
			done = true;
			if (tags && a->prot[page] & PROT_MTE) {
				a->tags[at] = r >> 8 & 0xf;
				set_tag(p, a->tags[at]);
			}
			if (!data)
				continue;
			a->data[at] = same ? datum : r & 0xff;
			*(volatile u64 *)p = word_of(a->data[at]);
			*(volatile u64 *)(p + 8) = word_of(a->data[at]);
		}
	}
	return done;
}

static bool do_verify(struct step *s)
{
	verify(s->a, 0, s->a->pages, STRIDE);
	return true;
}

/* PROT_MTE stays. */
static bool protect(struct area *a, u32 first, u32 n, int prot)
{
	if (mprotect(page_of(a, first), n * ps, prot))
		return false;
	for (; n--; first++)
		a->prot[first] = prot | (a->prot[first] & PROT_MTE);
	return true;
}

static bool do_mprotect(struct step *s)
{
	static const int protections[] = {
		RW, RW, RW | PROT_MTE, RW | PROT_MTE, PROT_READ,
		PROT_READ | PROT_MTE, PROT_NONE, PROT_NONE | PROT_MTE, PROT_NONE | PROT_MTE,
	};

	return protect(s->a, s->first, s->n, protections[below(&s->rng, ARRAY_SIZE(protections))]);
}

static bool do_advise(struct step *s)
{
	return !madvise(page_of(s->a, s->first), s->n * ps, s->op->arg);
}

static bool do_discard(struct step *s)
{
	if (madvise(page_of(s->a, s->first), s->n * ps, s->op->arg))
		return false;
	if (!s->a->shared)
		expect_zeros(s->a, s->first, s->n);
	return true;
}

/* Whether a page was freed is seen for sure if its tags are. */
static bool do_free(struct step *s)
{
	if (s->a->shared || !all_have(s->a, s->first, s->n, PROT_MTE) ||
	    madvise(page_of(s->a, s->first), s->n * ps, MADV_FREE))
		return false;
	memset(s->a->lazy + s->first, 1, s->n);
	return true;
}

static bool do_map_again(struct step *s)
{
	struct area *a = s->a;
	char *p = page_of(a, s->first);
	int prot = one_in(&s->rng, 2) ? RW : RW | prot_mte_of[a->kind];
	int flags = MAP_FIXED | (a->shared ? MAP_SHARED : MAP_PRIVATE);

	if (!a->shared)
		flags |= MAP_ANONYMOUS;
	if (a->kind == HUGETLB)
		flags |= MAP_HUGETLB | MAP_HUGE_2M;
	if (s->op->arg && munmap(p, s->n * ps))
		return false;
	if (mmap(p, s->n * ps, prot, flags, a->fd, s->first * ps) != p)
		fail("cannot map again: %s", strerror(errno));
	memset(a->prot + s->first, prot, s->n);
	if (!a->shared)
		expect_zeros(a, s->first, s->n);
	return true;
}

static bool do_punch(struct step *s)
{
	struct area *a = s->a;

	if (!a->shared)
		return false;
	if (s->op->arg) {
		if (ftruncate(a->fd, s->first * ps))
			return false;
		if (ftruncate(a->fd, a->pages * ps))
			fail("cannot extend the file: %s", strerror(errno));
		expect_zeros(a, s->first, a->pages - s->first);
		return true;
	}
	if (fallocate(a->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, s->first * ps,
		      s->n * ps))
		return false;
	expect_zeros(a, s->first, s->n);
	return true;
}

/* Address space to move @size bytes to; in the middle of it, sometimes aligned */
static char *elsewhere(struct rng *r, size_t size)
{
	char *p = mmap(NULL, size + 2 * HUGE, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	p = (char *)(((u64)p + HUGE - 1) & ~(HUGE - 1));
	return one_in(r, 2) ? p : p + below(r, HUGE / ps) * ps;
}

static bool move(char *from, size_t size, char *to, int flags)
{
	return mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED | flags, to) == to;
}

static bool do_move(struct step *s)
{
	struct area *a = s->a;
	char *p, *to;

	if (a->kind == HUGETLB || a->kind == HUGETLB_FD)
		return false;
	if (s->op->arg) {
		to = elsewhere(&s->rng, a->pages * ps);
		if (!to || !move(a->mem, a->pages * ps, to, 0))
			return false;
		a->mem = to;
		delete_slots(a);
		return true;
	}
	p = page_of(a, s->first);
	to = elsewhere(&s->rng, s->n * ps);
	if (!to || !move(p, s->n * ps, to, 0))
		return false;
	if (!move(to, s->n * ps, p, 0))
		fail("cannot move memory back: %s", strerror(errno));
	return true;
}

/* The old place of the memory stays mapped, and is empty. */
static bool do_leave(struct step *s)
{
	struct area *a = s->a;
	char *to, *p = page_of(a, s->first);
	u32 i, where;

	if (a->shared || a->kind == HUGETLB)
		return false;
	to = elsewhere(&s->rng, s->n * ps);
	if (!to || !move(p, s->n * ps, to, MOVE_DONTUNMAP))
		return false;
	for (i = 0; i < s->n; i++)
		if (a->prot[s->first + i] & PROT_READ &&
		    !page_matches(a, s->first + i, true, &where))
			fail("%s%d page %u granule %u: not empty after it was moved",
			     kind_names[a->kind], (int)(a - areas), s->first + i, where);
	if (!move(to, s->n * ps, p, 0))
		fail("cannot move memory back: %s", strerror(errno));
	return true;
}

static bool do_swapoff(struct step *s)
{
	char path[64];

	(void)s;
	snprintf(path, sizeof(path), "/dev/zram%d", swap_id);
	if (swap_id < 0 || swapoff(path))
		return false;
	if (swapon(path, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK))
		fail("cannot swap to %s again: %s", path, strerror(errno));
	return true;
}

static bool do_compact(struct step *s)
{
	(void)s;
	return write_text("/proc/sys/vm/compact_memory", "1");
}

static bool do_split(struct step *s)
{
	char text[96];
	u64 p = (u64)page_of(s->a, s->first);

	snprintf(text, sizeof(text), "%d,0x%lx,0x%lx", getpid(), p, p + s->n * ps);
	return write_text("/sys/kernel/debug/split_huge_pages", text);
}

/* The data of one page change, by the kernel's hand; its tags do not. */
static bool do_kernel_write(struct step *s)
{
	struct area *a = s->a;
	int page = certain_page(s, RW);
	struct iovec from, to;
	u64 *buffer;
	size_t g, got;

	if (page < 0)
		return false;
	buffer = malloc(ps);
	for (g = 0; g < gpp; g++)
		buffer[2 * g] = buffer[2 * g + 1] = word_of(rng_next(&s->rng));
	from = (struct iovec){ buffer, ps };
	to = (struct iovec){ page_of(a, page), ps };
	if (s->op->arg && a->shared && a->kind != HUGETLB_FD)
		got = pwrite(a->fd, buffer, ps, page * ps);
	else
		got = process_vm_writev(getpid(), &from, 1, &to, 1, 0);
	for (g = 0; got == ps && g < gpp; g++)
		a->data[page * gpp + g] = buffer[2 * g];
	free(buffer);
	return got == ps;
}

/* The same from a device to which it goes first, without the page cache */
static bool do_direct_io(struct step *s)
{
	struct area *a = s->a;
	int from = certain_page(s, PROT_READ), to;
	off_t at = (worker * 2 + is_child) * ps;
	char path[64];
	bool ok;
	int fd;

	s->rng.state++;
	to = certain_page(s, RW);
	snprintf(path, sizeof(path), "/dev/zram%d", device_id);
	if (device_id < 0 || from < 0 || to < 0)
		return false;
	fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return false;
	ok = pwrite(fd, page_of(a, from), ps, at) == (ssize_t)ps &&
	     pread(fd, page_of(a, to), ps, at) == (ssize_t)ps;
	close(fd);
	if (ok)
		memcpy(a->data + to * gpp, a->data + from * gpp, gpp);
	return ok;
}

static int uffd_of(char *p, size_t size, int mode)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (u64)p, size }, .mode = mode
	};
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return -1;
	if (!ioctl(fd, UFFDIO_API, &api) && !ioctl(fd, UFFDIO_REGISTER, &reg))
		return fd;
	close(fd);
	return -1;
}

enum { COPY_PAGE, ZERO_PAGE, MOVE_PAGE, WRITE_PROTECT };

/* A page that is missing gets its content from userfaultfd. */
static bool do_uffd(struct step *s)
{
	struct area *a = s->a;
	int page = certain_page(s, RW), from;
	char *p;
	bool done = false;
	int fd;

	s->rng.state++;
	from = certain_page(s, RW);
	if (page < 0 || a->shared || a->kind == HUGETLB)
		return false;
	p = page_of(a, page);
	if (s->op->arg == WRITE_PROTECT) {
		struct uffdio_writeprotect wp = {
			{ (u64)p, ps }, UFFDIO_WRITEPROTECT_MODE_WP
		};

		fd = uffd_of(p, ps, UFFDIO_REGISTER_MODE_WP);
		if (fd < 0)
			return false;
		done = !ioctl(fd, UFFDIO_WRITEPROTECT, &wp);
		verify_page(a, page, 1);
		close(fd);
		return done;
	}
	if (from < 0 || from == page)
		return false;
	if (madvise(p, ps, MADV_DONTNEED))
		return false;
	expect_zeros(a, page, 1);
	fd = uffd_of(p, ps, UFFDIO_REGISTER_MODE_MISSING);
	if (fd < 0)
		return false;
	if (s->op->arg == COPY_PAGE) {
		struct uffdio_copy copy = { (u64)p, (u64)page_of(a, from), ps, 0, 0 };

		done = !ioctl(fd, UFFDIO_COPY, &copy);
		if (done)
			memcpy(a->data + page * gpp, a->data + from * gpp, gpp);
	} else if (s->op->arg == ZERO_PAGE) {
		struct uffdio_zeropage zero = { { (u64)p, ps }, 0, 0 };

		done = !ioctl(fd, UFFDIO_ZEROPAGE, &zero);
	} else {
		struct move_args m = { (u64)p, (u64)page_of(a, from), ps, 0, 0 };

		done = !ioctl(fd, MOVE_PAGES_IOCTL, &m);
		if (done) {
			memcpy(a->data + page * gpp, a->data + from * gpp, gpp);
			memcpy(a->tags + page * gpp, a->tags + from * gpp, gpp);
			expect_zeros(a, from, 1);
		}
	}
	close(fd);
	return done;
}

static void stop_here(void)
{
	ptrace(PTRACE_TRACEME, 0, 0, 0);
	raise(SIGSTOP);
}

/*
 * A debugger sees the tags of a stopped child, whatever the child may do with the memory,
 * and sets others. They are for the child alone if the memory is private.
 */
static bool do_ptrace(struct step *s)
{
	struct area *a = s->a;
	u32 page, n = s->n < 8 ? s->n : 8, last = s->first + n;
	/* The tags that the child finds when it goes on, and of which pages */
	u8 *told = mmap(NULL, n * gpp + n, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	u8 *is_told = told + n * gpp, *tags = malloc(gpp);
	bool poke = s->op->arg, done = false;
	int status;
	pid_t pid;
	size_t g;

	pid = fork();
	if (pid < 0)
		return false;
	if (!pid) {
		is_child = true;
		stop_here();
		for (page = s->first; page < last; page++) {
			if (!is_told[page - s->first])
				continue;
			memcpy(a->tags + page * gpp, told + (page - s->first) * gpp, gpp);
			if (protect(a, page, 1, RW | PROT_MTE))
				verify_page(a, page, 1);
		}
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		fail("a child does not stop");
	for (page = s->first; page < last; page++) {
		struct iovec iov = { tags, gpp };
		u8 *want = a->tags + page * gpp;
		bool zeros = true, match = true;

		if (!(a->prot[page] & PROT_MTE))
			continue;
		if (ptrace(PEEK_TAGS, pid, page_of(a, page), &iov))
			continue;
		done = true;
		for (g = 0; g < iov.iov_len; g++) {
			match &= tags[g] == want[g];
			zeros &= !tags[g];
		}
		if (!match && !(zeros && a->lazy[page])) {
			for (g = 0; tags[g] == want[g]; g++)
				;
			fail("%s%d page %u granule %zu: a debugger sees tag %x, not %x",
			     kind_names[a->kind], (int)(a - areas), page, g, tags[g], want[g]);
		}
		if (!poke || a->lazy[page])
			continue;
		for (g = 0; g < gpp; g++)
			tags[g] = rng_next(&s->rng) & 0xf;
		iov.iov_len = gpp;
		if (ptrace(POKE_TAGS, pid, page_of(a, page), &iov) || iov.iov_len != gpp)
			continue;
		memcpy(told + (page - s->first) * gpp, tags, gpp);
		is_told[page - s->first] = 1;
	}
	ptrace(PTRACE_CONT, pid, 0, 0);
	if (waitpid(pid, &status, 0) != pid || WIFSIGNALED(status))
		fail("a debugged child was killed");
	if (WEXITSTATUS(status))
		_exit(1);
	munmap(told, n * gpp + n);
	free(tags);
	return done;
}

/* How many tags must PTRACE_PEEKMTETAGS or PTRACE_POKEMTETAGS copy? */
static u64 reachable_tags(const struct area *a, u64 addr, u64 tags, bool poke)
{
	u64 n = 0, page;

	for (n = 0; n < tags; n++, addr += GRANULE) {
		if (addr - (u64)a->mem >= a->pages * ps)
			break;
		page = (addr - (u64)a->mem) / ps;
		if (!(a->prot[page] & PROT_MTE))
			break;
		/* A debugger may write where the child may not, if it gets a copy. */
		if (poke && !(a->prot[page] & PROT_WRITE) && a->shared)
			break;
	}
	return n;
}

/* A debugger with any arguments; the child is not asked. */
static bool do_hostile_ptrace(struct step *s)
{
	struct area *a = s->a;
	size_t granules = a->pages * gpp, calls;
	u8 *tags = a->tags;
	struct rng *r = &s->rng;
	int status;
	u32 page;
	pid_t pid;

	for (page = 0; page < a->pages; page++) {
		if (a->lazy[page] && a->prot[page] & PROT_WRITE)
			settle(a, page);
		if (a->lazy[page])
			return false;
	}
	make_tag_buffer();
	pid = fork();
	if (pid < 0)
		return false;
	if (!pid) {
		stop_here();
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status))
		fail("a child does not stop");
	if (!a->shared)
		tags = memcpy(malloc(granules), a->tags, granules);
	for (calls = 0; calls < HOSTILE_CALLS; calls++) {
		u8 *end = tag_buffer_end, *buffer = tag_buffer;
		bool poke = below(r, 2), bad_iov = one_in(r, 12);
		u64 addr = (u64)page_of(a, s->first + below(r, s->n)) + below(r, ps);
		u64 len = 1 + below(r, one_in(r, 2) ? gpp : 3 * gpp), n, room, i, first;
		struct iovec iov;
		int ret;

		switch (below(r, 8)) {
		case 0:
			buffer = end - below(r, 3 * gpp);
			break;
		case 1:
			buffer = one_in(r, 2) ? NULL : (u8 *)(-1UL << (8 + below(r, 40)));
			break;
		case 2:
			len = 1UL << below(r, 40);
			break;
		case 3:
			len = 0;
			break;
		case 4:
			addr = one_in(r, 2) ? below(r, ps) : -1UL << (8 + below(r, 40));
		}
		room = buffer >= tag_buffer && buffer < end ? end - buffer : 0;
		fill_tag_buffer(r);
		iov = (struct iovec){ buffer, len };
		res->hostile++;
		n = reachable_tags(a, addr & ~(GRANULE - 1), len, poke);
		ret = ptrace(poke ? POKE_TAGS : PEEK_TAGS, pid, addr, bad_iov ? NULL : &iov);
		ret = ret ? -errno : (int)iov.iov_len;
		if (bad_iov || !n || !room) {
			int want = bad_iov || n ? -EFAULT : -EIO;

			/* Of several errors any; it is not said what comes of no tags at all. */
			if (ret != want && (bad_iov || (ret != -EFAULT && ret != -EIO)))
				fail("ptrace(%s, %lx, %p, %lu) of %s%d: %d, not %d",
				     poke ? "poke" : "peek", addr, buffer, len,
				     kind_names[a->kind], (int)(a - areas), ret, want);
			continue;
		}
		/* The buffer may end where no user space is. */
		if (ret == -EFAULT && len > GIGABYTE)
			continue;
		/* A fault in the buffer may be found a few bytes early. */
		if (ret < 0 ? n <= room || (ret != -EFAULT && ret != -EIO) :
		    n <= room ? ret != (int)n : ret > (int)room)
			fail("ptrace(%s, %lx, %+ld, %lu) of %s%d: %d, not %lu (%lu bytes)",
			     poke ? "poke" : "peek", addr, buffer - tag_buffer, len,
			     kind_names[a->kind], (int)(a - areas), ret, n, room);
		first = (addr - (u64)a->mem) / GRANULE;
		for (i = 0; ret > 0 && i < (u64)ret; i++) {
			if (poke)
				tags[first + i] = buffer[i] & 0xf;
			else if (buffer[i] != tags[first + i])
				fail("%s%d granule %lu: a debugger sees tag %x, not %x",
				     kind_names[a->kind], (int)(a - areas), first + i,
				     buffer[i], tags[first + i]);
		}
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	if (!a->shared)
		free(tags);
	return true;
}

static bool do_remap_file_pages(struct step *s)
{
	struct area *a = s->a;

	if (!a->shared || a->kind == HUGETLB_FD)
		return false;
	return !syscall(__NR_remap_file_pages, page_of(a, s->first), s->n * ps, 0,
			s->first, 0);
}

/*
 * Two processes give PROT_MTE to the same pages, and then set tags, each in granules of its
 * own. The one that is behind has less to do, so that they meet again and again.
 */
static bool do_race(struct step *s)
{
	u32 pages = 192, i, k;
	int fd = memfd_create("race", MFD_CLOEXEC), status, me;
	volatile u32 *here = mmap(NULL, ps, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char *mem;
	pid_t pid;

	(void)s;
	if (fd < 0 || ftruncate(fd, pages * ps))
		return false;
	mem = mmap(NULL, pages * ps, RW, MAP_SHARED, fd, 0);
	for (i = 0; i < pages; i++)
		mem[i * ps] = 1;
	pid = fork();
	if (pid < 0)
		return false;
	me = !pid;
	for (i = 0; i < pages; i++)
		((volatile char *)mem)[i * ps];
	__atomic_add_fetch(here, 1, __ATOMIC_SEQ_CST);
	while (*here < 2)
		sched_yield();
	for (i = 0; i < pages; i++) {
		if (mprotect(mem + i * ps, ps, RW | PROT_MTE))
			break;
		for (k = me; k < 16; k += 2)
			set_tag(mem + i * ps + k * GRANULE, 1 + k % 15);
	}
	if (!pid)
		_exit(0);
	waitpid(pid, &status, 0);
	for (i = 0; i < pages; i++)
		for (k = 0; k < 16; k++)
			if (get_tag(mem + i * ps + k * GRANULE) != 1 + k % 15)
				fail("page %u granule %u: tag %x, not %x: lost in a race for "
				     "PROT_MTE", i, k, get_tag(mem + i * ps + k * GRANULE),
				     1 + k % 15);
	munmap(mem, pages * ps);
	munmap((void *)here, ps);
	close(fd);
	return true;
}

static bool do_fork(struct step *s);

static const struct operation operations[] = {
	{ "write tags and data", 14, do_write, 3, ANY_RANGE },
	{ "write tags", 8, do_write, 1, ANY_RANGE },
	{ "write data", 4, do_write, 2, ANY_RANGE },
	{ "write the same data", 2, do_write, 6, ANY_RANGE },
	{ "verify", 3, do_verify, 0, 0 },
	{ "mprotect", 14, do_mprotect, 0, 0 },
	{ "MADV_DONTNEED", 4, do_discard, MADV_DONTNEED, 0 },
	{ "MADV_DONTNEED_LOCKED", 1, do_discard, ADVICE_DONTNEED_LOCKED, 0 },
	{ "MADV_FREE", 3, do_free, 0, 0 },
	{ "mmap", 2, do_map_again, 0, 0 },
	{ "munmap and mmap", 2, do_map_again, 1, 0 },
	{ "MADV_COLD", 3, do_advise, ADVICE_COLD, 0 },
	{ "MADV_PAGEOUT", 12, do_advise, ADVICE_PAGEOUT, 0 },
	{ "MADV_COLLAPSE", 3, do_advise, ADVICE_COLLAPSE, 0 },
	{ "MADV_HUGEPAGE", 2, do_advise, MADV_HUGEPAGE, 0 },
	{ "MADV_NOHUGEPAGE", 1, do_advise, MADV_NOHUGEPAGE, 0 },
	{ "MADV_MERGEABLE", 3, do_advise, MADV_MERGEABLE, 0 },
	{ "MADV_UNMERGEABLE", 1, do_advise, MADV_UNMERGEABLE, 0 },
	{ "MADV_POPULATE_READ", 1, do_advise, ADVICE_POPULATE_READ, 0 },
	{ "MADV_POPULATE_WRITE", 1, do_advise, ADVICE_POPULATE_WRITE, 0 },
	{ "MADV_WILLNEED", 1, do_advise, MADV_WILLNEED, 0 },
	{ "punch hole", 5, do_punch, 0, 0 },
	{ "truncate", 2, do_punch, 1, 0 },
	{ "mremap part", 4, do_move, 0, 0 },
	{ "mremap all", 2, do_move, 1, 0 },
	{ "mremap, not unmapped", 3, do_leave, 0, 0 },
	{ "fork", 8, do_fork, 0, NOT_IN_CHILD },
	{ "swapoff", 5, do_swapoff, 0, NOT_IN_CHILD },
	{ "compact", 1, do_compact, 0, NOT_IN_CHILD },
	{ "split_huge_pages", 3, do_split, 0, 0 },
	{ "process_vm_writev", 2, do_kernel_write, 0, ANY_RANGE },
	{ "pwrite", 2, do_kernel_write, 1, ANY_RANGE },
	{ "O_DIRECT", 2, do_direct_io, 0, ANY_RANGE },
	{ "UFFDIO_COPY", 2, do_uffd, COPY_PAGE, ANY_RANGE },
	{ "UFFDIO_ZEROPAGE", 1, do_uffd, ZERO_PAGE, ANY_RANGE },
	{ "UFFDIO_MOVE", 2, do_uffd, MOVE_PAGE, ANY_RANGE },
	{ "UFFDIO_WRITEPROTECT", 1, do_uffd, WRITE_PROTECT, ANY_RANGE },
	{ "PTRACE_PEEKMTETAGS", 3, do_ptrace, 0, ANY_RANGE | NOT_IN_CHILD },
	{ "PTRACE_POKEMTETAGS", 3, do_ptrace, 1, ANY_RANGE | NOT_IN_CHILD },
	{ "remap_file_pages", 1, do_remap_file_pages, 0, 0 },
	{ "race for PROT_MTE", 3, do_race, 0, NOT_IN_CHILD },
	{ "memslot", 10, do_memslot, 0, 0 },
	{ "dirty log", 4, do_dirty_log, 0, 0 },
	{ "COPY_TAGS to guest", 8, do_copy_tags, TO_GUEST, ANY_RANGE },
	{ "COPY_TAGS from guest", 6, do_copy_tags, FROM_GUEST, ANY_RANGE },
	{ "guest sets", 8, do_guest, 1, ANY_RANGE },
	{ "guest gets", 8, do_guest, 0, ANY_RANGE },
	{ "dirty log for a while", 4, do_log_for_a_while, 0, ANY_RANGE },
	{ "COPY_TAGS beside guest", 3, do_copy_beside_guest, 0, ANY_RANGE | NOT_IN_CHILD },
	{ "COPY_TAGS beside fork", 3, do_copy_beside_fork, 0, ANY_RANGE | NOT_IN_CHILD },
	{ "COPY_TAGS from an alias", 3, do_copy_from_alias, 0, ANY_RANGE },
	{ "hostile COPY_TAGS", 4, do_hostile_copy, 0, ANY_RANGE },
	{ "hostile ptrace", 4, do_hostile_ptrace, 0, ANY_RANGE | NOT_IN_CHILD },
	{ "hostile VM ioctls", 2, do_hostile_vm, 0, ANY_RANGE },
};

/* The step depends on the seed and its number alone, not on what was done before. */
static struct step step_of(u64 number)
{
	struct step s = { .rng = rng_of(seed, number), .number = number };
	u32 total = 0, at, i, unit;

	for (i = 0; i < ARRAY_SIZE(operations); i++)
		total += operations[i].weight;
	at = below(&s.rng, total);
	for (i = 0; at >= operations[i].weight; i++)
		at -= operations[i].weight;
	s.op = &operations[i];
	/* They meet where most of them are. */
	s.a = &areas[one_in(&s.rng, 2) ? 0 : below(&s.rng, nr_areas)];
	switch (below(&s.rng, 4)) {
	case 0:
		s.n = s.a->pages;
		break;
	case 1:
		s.n = s.a->pages / 2;
		s.first = one_in(&s.rng, 2) ? s.n : 0;
		break;
	case 2:
		s.n = 1;
		s.first = below(&s.rng, s.a->pages);
		break;
	case 3:
		s.n = 1 + below(&s.rng, s.a->pages < 16 ? s.a->pages : 16);
		s.first = below(&s.rng, s.a->pages - s.n + 1);
	}
	unit = HUGE / ps;
	if ((s.a->kind == HUGETLB || s.a->kind == HUGETLB_FD) && !(s.op->flags & ANY_RANGE)) {
		s.first = s.first / unit * unit;
		s.n = (s.n + unit - 1) / unit * unit;
	}
	return s;
}

static bool is_left_out(const struct step *s)
{
	return (is_child && s->op->flags & NOT_IN_CHILD) ||
	       (left_out && strstr(left_out, s->op->name));
}

static void do_step(u64 number)
{
	struct step s = step_of(number);
	size_t nr = s.op - operations;
	u32 i;

	if (s.a->shared && !is_child)
		reap();
	if (is_left_out(&s))
		return;
	res->progress++;
	res->tried[nr]++;
	if (s.op->run(&s))
		res->done[nr]++;
	/* The child may own it now. */
	if (s.a->shared && child)
		return;
	if (s.n <= FEW_PAGES)
		verify(s.a, s.first, s.n, 1);
	for (i = 0; i < 6; i++)
		verify_page(s.a, below(&s.rng, s.a->pages), 1);
}

static void verify_all(void)
{
	unsigned int i;

	for (i = 0; i < nr_areas; i++) {
		struct area *a = &areas[i];

		verify(a, 0, a->pages, STRIDE);
		if (!protect(a, 0, a->pages, RW | prot_mte_of[a->kind]))
			fail("cannot make all memory accessible: %s", strerror(errno));
		verify(a, 0, a->pages, is_child ? STRIDE : 1);
	}
}

static bool do_fork(struct step *s)
{
	unsigned int i, n = below(&s->rng, 5);
	pid_t pid;

	reap();
	pid = fork();
	if (pid < 0)
		return false;
	if (pid) {
		child = pid;
		return true;
	}
	is_child = true;
	forget_vms();
	for (i = 0; i < n; i++)
		do_step((s->number + 1) * 1000 + i);
	verify_all();
	_exit(0);
}

static void *noise(void *unused)
{
	static const int advice[] = {
		ADVICE_PAGEOUT, ADVICE_PAGEOUT, ADVICE_COLD, ADVICE_COLLAPSE,
		ADVICE_POPULATE_READ, ADVICE_POPULATE_WRITE, MADV_WILLNEED,
	};
	struct rng r = rng_of(seed, 1UL << 40);

	while (!noise_ends) {
		const struct area *a = &areas[below(&r, nr_areas)];
		u32 n = 1 + below(&r, one_in(&r, 4) ? a->pages : 8);
		u32 first = below(&r, a->pages - n + 1);

		madvise(page_of(a, first), n * ps, advice[below(&r, ARRAY_SIZE(advice))]);
		usleep(below(&r, 400));
	}
	return unused;
}

static bool make_area(struct area *a, enum kind kind, u32 small, int prot)
{
	bool fd = kind == MEMFD || kind == MEMFD_THP || kind == HUGETLB_FD;
	int flags = MAP_FIXED | (fd ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
	size_t size, g;
	char *p;

	a->kind = kind;
	a->shared = fd;
	a->fd = -1;
	a->pages = kind == ANON || kind == MEMFD ? small : HUGE / ps;
	size = a->pages * ps;
	p = mmap(NULL, size + 2 * HUGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
		 -1, 0);
	if (p == MAP_FAILED)
		return false;
	p = (char *)(((u64)p + HUGE - 1) & ~(HUGE - 1));
	if (fd) {
		a->fd = memfd_create("stress", MFD_CLOEXEC |
				     (kind == HUGETLB_FD ? MFD_HUGE_2M : 0));
		if (a->fd < 0 || ftruncate(a->fd, size))
			return false;
	}
	if (kind == HUGETLB)
		flags |= MAP_HUGETLB | MAP_HUGE_2M;
	a->mem = mmap(p, size, prot, flags, a->fd, 0);
	if (a->mem == MAP_FAILED)
		return false;
	if (kind == THP || kind == MEMFD_THP)
		madvise(a->mem, size, MADV_HUGEPAGE);
	g = a->pages * gpp;
	a->tags = mmap(NULL, 2 * g, RW, MAP_ANONYMOUS | (fd ? MAP_SHARED : MAP_PRIVATE), -1, 0);
	a->data = a->tags + g;
	a->prot = malloc(a->pages);
	a->lazy = calloc(1, a->pages);
	memset(a->prot, prot, a->pages);
	return a->tags != MAP_FAILED;
}

static void release_area(struct area *a)
{
	munmap(a->mem, a->pages * ps);
	munmap(a->tags, 2 * a->pages * gpp);
	free(a->prot);
	free(a->lazy);
	if (a->fd >= 0)
		close(a->fd);
}

/* Without this the names and ranges of the steps are not known. */
static void make_areas(bool really)
{
	struct rng r = rng_of(seed, 1UL << 41);
	unsigned int i;

	nr_areas = 2 + below(&r, MAX_AREAS - 1);
	for (i = 0; i < nr_areas; i++) {
		enum kind kind = below(&r, NR_KINDS);
		u32 small = 4 + below(&r, 61);
		bool tagged = one_in(&r, 2);

		if (!kind_works[kind])
			kind = ANON;
		areas[i].kind = kind;
		areas[i].pages = kind == ANON || kind == MEMFD ? small : HUGE / ps;
		if (!really)
			continue;
		if (!make_area(&areas[i], kind, small, tagged ? RW | prot_mte_of[kind] : RW))
			fail("cannot make an area of %s: %s", kind_names[kind], strerror(errno));
	}
}

static void sequence(const bool *keep, bool with_noise)
{
	pthread_t thread;
	u64 i;

	make_areas(true);
	with_noise = with_noise && !pthread_create(&thread, NULL, noise, NULL);
	for (i = 0; i < STEPS; i++) {
		res->step = i;
		if (keep[i])
			do_step(i);
	}
	reap();
	res->step = STEPS;
	noise_ends = true;
	if (with_noise)
		pthread_join(thread, NULL);
	verify_all();
	_exit(0);
}

/* Returns whether it failed. */
static bool attempt(const bool *keep, bool with_noise)
{
	double start = seconds();
	u64 progress;
	int status;
	pid_t pid;

	res->text[0] = '\0';
	progress = res->progress;
	pid = fork();
	if (pid < 0)
		return false;
	if (!pid) {
		/* What it leaves behind dies with it, and it with us. */
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		sequence(keep, with_noise);
	}
	while (!waitpid(pid, &status, WNOHANG)) {
		usleep(1000);
		if (res->progress != progress) {
			progress = res->progress;
			start = seconds();
		} else if (seconds() - start > HANG_SECONDS) {
			snprintf(res->text, sizeof(res->text), "hangs in step %d", res->step);
			kill(-pid, SIGKILL);
			waitpid(pid, &status, 0);
			return true;
		}
	}
	if (status)
		kill(-pid, SIGKILL);
	if (WIFSIGNALED(status))
		snprintf(res->text, sizeof(res->text), "killed by signal %d in step %d",
			 WTERMSIG(status), res->step);
	return status != 0;
}

/* The shortest sequence that still fails, each time in up to three tries */
static bool fails(const bool *keep, bool *with_noise)
{
	int i;

	for (i = 0; i < 3; i++)
		if (attempt(keep, *with_noise && i))
			return true;
	return false;
}

static void shrink(bool *keep, bool *with_noise)
{
	double end = seconds() + SHRINK_SECONDS;
	unsigned int chunk, i;
	bool fewer[STEPS], quiet = false;

	if (*with_noise && fails(keep, &quiet))
		*with_noise = false;
	for (chunk = STEPS / 2; chunk; chunk /= 2)
		for (i = 0; i < STEPS && seconds() < end; i += chunk) {
			memcpy(fewer, keep, sizeof(fewer));
			memset(fewer + i, 0, chunk * sizeof(*fewer));
			if (memcmp(fewer, keep, sizeof(fewer)) && fails(fewer, with_noise))
				memcpy(keep, fewer, sizeof(fewer));
		}
}

static void print_step(u64 number)
{
	struct step s = step_of(number);

	printf("   %2lu %s: %s%d, pages %u to %u\n", number, s.op->name,
	       kind_names[s.a->kind], (int)(s.a - areas), s.first, s.first + s.n - 1);
}

struct worker_result {
	u64 sequences, failed;
	char first[320];
};

static void report(struct worker_result *w, const bool *kept, bool with_noise,
		   double found)
{
	char text[sizeof(res->text)], steps[4 * STEPS] = "";
	bool keep[STEPS], again;
	u64 i;

	memcpy(keep, kept, sizeof(keep));
	for (i = res->step + 1; i < STEPS; i++)
		keep[i] = false;
	memcpy(text, res->text, sizeof(text));
	if (!w->first[0])
		snprintf(w->first, sizeof(w->first), "after %.1f s, seed %lu: %s", found, seed,
			 text);
	shrink(keep, &with_noise);
	again = attempt(keep, with_noise);
	for (i = 0; i < STEPS; i++)
		if (keep[i])
			sprintf(steps + strlen(steps), "%s%lu", steps[0] ? "," : "", i);
	printf("after %.1f s, seed %lu: %s\n", found, seed, text);
	printf("the shortest sequence that fails (SEED=%lu STEPS=%s)%s: %s\n", seed, steps,
	       with_noise ? " needs advice meanwhile" : "",
	       again ? res->text : "not each time");
	make_areas(false);
	for (i = 0; i < STEPS; i++)
		if (keep[i])
			print_step(i);
	fflush(stdout);
}

static void work(struct worker_result *w, u64 first, const char *steps, double start, double end)
{
	bool keep[STEPS];

	for (seed = first + (steps ? 0 : worker); seconds() < end && w->failed < MAX_REPORTS;
	     seed += steps ? 0 : WORKERS) {
		bool with_noise = seed % 2;
		const char *p = steps;

		memset(keep, !steps, sizeof(keep));
		while (p && *p) {
			u64 i = strtoul(p, (char **)&p, 10);

			if (i < STEPS)
				keep[i] = true;
			p += *p != '\0';
		}
		make_areas(false);
		for (u64 i = 0; i < STEPS; i++) {
			struct step s = step_of(i);

			keep[i] = keep[i] && !is_left_out(&s);
		}
		w->sequences++;
		if (attempt(keep, with_noise)) {
			w->failed++;
			report(w, keep, with_noise, seconds() - start);
		}
	}
	exit(0);
}

static struct settings settings;

static void prepare(void)
{
	enum kind kind;

	change_setting(&settings, "/proc/sys/vm/overcommit_memory", "1");
	change_setting(&settings, THP_SETTINGS "enabled", "madvise");
	change_setting(&settings, THP_SETTINGS "shmem_enabled", "advise");
	change_setting(&settings, HUGETLB_POOL, "32");
	change_setting(&settings, KSM_SETTINGS "sleep_millisecs", "20");
	change_setting(&settings, KSM_SETTINGS "pages_to_scan", "2000");
	change_setting(&settings, KSM_SETTINGS "run", "1");
	swap_id = zram_add(SWAP_BYTES);
	if (swap_id >= 0 && !zram_swap_on(swap_id, SWAP_BYTES)) {
		zram_remove(swap_id);
		swap_id = -1;
	}
	device_id = zram_add(DEVICE_BYTES);
	for (kind = 0; kind < NR_KINDS; kind++) {
		struct area a = {};

		if ((kind == THP || kind == MEMFD_THP) &&
		    (read_number(THP_SETTINGS "hpage_pmd_size") <= 0 ||
		     (u64)read_number(THP_SETTINGS "hpage_pmd_size") > HUGE))
			continue;
		if (left_out && strstr(left_out, kind_names[kind]))
			continue;
		kind_works[kind] = make_area(&a, kind, 4, RW);
		if (!kind_works[kind])
			continue;
		if (protect(&a, 0, a.pages, RW | PROT_MTE))
			prot_mte_of[kind] = PROT_MTE;
		release_area(&a);
		printf("# %s%s\n", kind_names[kind], prot_mte_of[kind] ? "" : ", without PROT_MTE");
	}
	printf("# swap: %s\n", swap_id < 0 ? "no" : "yes");
	dirty_free_memory(256UL << 20, 0xd);
}

static void clean_up(void)
{
	if (swap_id >= 0)
		zram_remove(swap_id);
	if (device_id >= 0)
		zram_remove(device_id);
	restore_settings(&settings);
}

static pid_t workers[WORKERS];

static void stop(int sig)
{
	int i;

	for (i = 0; i < WORKERS; i++)
		if (workers[i] > 0)
			kill(workers[i], SIGKILL);
	clean_up();
	_exit(128 + sig);
}

int main(void)
{
	u64 first = number_of("MTE_STRESS_SEED", 1), duration = number_of("MTE_STRESS_SECONDS", 10);
	const char *steps = getenv("MTE_STRESS_STEPS");
	struct worker_result *w;
	u64 sequences = 0, failed = 0, hostile = 0;
	struct result *results;
	double start;
	size_t i;

	setvbuf(stdout, NULL, _IOLBF, 0);
	ps = getpagesize();
	gpp = ps / GRANULE;
	if (!(getauxval(AT_HWCAP2) & HAS_MTE)) {
		printf("1..0 # SKIP no MTE\n");
		return 4;
	}
	if (geteuid()) {
		printf("1..0 # SKIP not root\n");
		return 4;
	}
	if (steps && !*steps)
		steps = NULL;
	left_out = getenv("MTE_STRESS_WITHOUT");
	kvm_refuses_logged = kernel_is_from(6, 12);
	kvm_ages_parts = kernel_is_from(6, 5);
	printf("TAP version 13\n1..1\n");
	w = mmap(NULL, ps, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	results = mmap(NULL, sizeof(*results) * WORKERS, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	prepare();
	signal(SIGTERM, stop);
	signal(SIGINT, stop);
	start = seconds();
	for (worker = 0; worker < WORKERS; worker++) {
		res = &results[worker];
		fflush(stdout);
		workers[worker] = fork();
		if (!workers[worker]) {
			signal(SIGTERM, SIG_DFL);
			signal(SIGINT, SIG_DFL);
			work(&w[worker], first, steps, start, start + duration);
		}
	}
	for (i = 0; i < WORKERS; i++)
		waitpid(workers[i], NULL, 0);
	clean_up();
	for (i = 0; i < ARRAY_SIZE(operations); i++) {
		u64 tried = 0, done = 0;

		for (worker = 0; worker < WORKERS; worker++) {
			tried += results[worker].tried[i];
			done += results[worker].done[i];
		}
		printf("# %6lu of %6lu done: %s\n", done, tried, operations[i].name);
	}
	for (worker = 0; worker < WORKERS; worker++) {
		sequences += w[worker].sequences;
		failed += w[worker].failed;
		hostile += results[worker].hostile;
	}
	printf("# %lu calls with hostile arguments\n", hostile);
	printf("# %lu sequences from seed %lu in %.0f s, %lu failed\n", sequences, first,
	       seconds() - start, failed);
	for (worker = WORKERS; failed && worker--;)
		if (w[worker].first[0])
			printf("# %s\n", w[worker].first);
	printf("%sok 1 nobody_sees_a_wrong_tag_or_datum\n", failed || !sequences ? "not " : "");
	return failed || !sequences;
}
