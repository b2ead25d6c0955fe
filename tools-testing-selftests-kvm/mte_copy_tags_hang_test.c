// SPDX-License-Identifier: GPL-2.0
/*
 * mte_copy_tags_hang_test - KVM_ARM_MTE_COPY_TAGS while memory is not there
 *
 * The ioctl has to wait for a page of its tag buffer: the page is behind a
 * userfaultfd, which stands for anything slow, such as a file on a disk or a
 * network, and for a peer that stopped answering. Meanwhile:
 *  - the vCPU can touch the page whose tags are to be written
 *  - another process that shares that page can map it with PROT_MTE
 *  - tags of other memory can be copied, and memslots can change
 * When the page of the buffer comes in, the ioctl ends and all tags are
 * written, even if it shares its one CPU with the vCPU that touches the page.
 *
 * It may have to wait for a page of the guest's memory as well. It goes on when
 * that page is there; if a file has taken its place, the file gets no tags.
 *
 * The buffer is in the very page whose tags are written, mapped a second time
 * with PROT_MTE and not yet faulted in there: the ioctl ends, too.
 *
 * Kernels that have these wrong spin for ever in one context or two. A case that
 * runs into this frees them again, as long as there is a way. There is none for
 * the last case: it costs the machine a CPU, so it comes last.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/userfaultfd.h>

#include "kselftest.h"
#include "mte.h"

#define READ		KVM_ARM_TAGS_FROM_GUEST
#define WRITE		KVM_ARM_TAGS_TO_GUEST

#define IPA		MTE_REGION_IPA
#define SIZE		(4 * MTE_PAGE)
/* Where a slot comes and goes while the ioctl waits */
#define OTHER_IPA	(16UL << 30)

#define TAGS		0x7a65ULL
#define OLD_TAGS	0x1d5ULL

/*
 * How long a thing that takes no time at all may take before it hangs. Short
 * of what the soft lockup detector waits for, which may be told to panic.
 */
#define PATIENCE_S	14
/* A vCPU on its way needs no more than this to get where it would spin. */
#define HEAD_START_S	2

/*
 * A page of user memory that comes in when we say so
 */
struct late_page {
	int uffd;
	char *addr;
};

static struct late_page let_page_be_late(char *addr)
{
	return (struct late_page) {
		.uffd = mte_open_userfaultfd(addr, MTE_PAGE),
		.addr = addr,
	};
}

static struct late_page make_late_page(void)
{
	return let_page_be_late(kvm_mmap(MTE_PAGE, PROT_READ | PROT_WRITE,
					 MAP_PRIVATE | MAP_ANONYMOUS, -1));
}

/* Wait until COPY_TAGS waits for the page. */
static void await_fault(struct late_page *page)
{
	if (!mte_await_userfault(page->uffd, PATIENCE_S * 1000))
		mte_die("COPY_TAGS does not touch the page");
}

static void let_page_come(struct late_page *page, u64 pattern)
{
	u8 *content = calloc(1, MTE_PAGE);

	mte_fill_pattern(content, MTE_GRANULES_PER_PAGE, pattern);
	mte_serve_page(page->uffd, page->addr, content);
	free(content);
}

/*
 * Something that a thread does once
 */
struct job {
	void (*work)(struct job *job);
	/* The CPU to do it on, as bind_to_cpu(); the main thread is on 0 */
	int cpu;
	struct mte_vm *m;
	u64 ipa;
	/* start() makes a page of 0 */
	size_t length;
	void *buffer;
	u64 direction;
	long ret;
	pid_t tid;
	bool done;
	pthread_t thread;
};

/* One of them spins where things go wrong; the main thread needs the other one. */
static void need_two_cpus(void)
{
	if (!bind_to_cpu(0, 1) || !bind_to_cpu(0, 0))
		mte_skip("this needs two CPUs");
}

static void *job_main(void *arg)
{
	struct job *job = arg;

	if (!bind_to_cpu(0, job->cpu))
		mte_die("cannot choose a CPU");
	job->tid = kvm_gettid();
	job->work(job);
	__atomic_store_n(&job->done, true, __ATOMIC_RELEASE);

	return NULL;
}

static void start(struct job *job)
{
	if (!job->length)
		job->length = MTE_PAGE;
	kvm_pthread_create(&job->thread, NULL, job_main, job);
}

static bool await(bool *done, unsigned int seconds)
{
	struct timespec start, now;

	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		if (__atomic_load_n(done, __ATOMIC_ACQUIRE))
			return true;
		usleep(1000);
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < seconds);

	return false;
}

static void copy_tags(struct job *job)
{
	struct kvm_arm_copy_mte_tags args = {
		.guest_ipa = job->ipa,
		.length = job->length,
		.addr = job->buffer,
		.flags = job->direction,
	};

	job->ret = mte_copy(job->m, &args);
}

static void touch_in_guest(struct job *job)
{
	mte_guest_store(job->m, job->ipa, MTE_PAGE);
}

static void change_slots(struct job *job)
{
	char *mem = job->m->hva;

	job->ret = mte_set_slot(job->m->vm, MTE_OTHER_SLOT, 0, OTHER_IPA, mem, MTE_PAGE);
	if (!job->ret)
		job->ret = mte_set_slot(job->m->vm, MTE_OTHER_SLOT, 0, OTHER_IPA, mem, 0);
}

/* The ioctl has all it needs now. */
static void expect_result(struct job *copy, long ret, const char *what)
{
	if (!await(&copy->done, PATIENCE_S))
		mte_die("%s: COPY_TAGS does not end", what);
	pthread_join(copy->thread, NULL);
	mte_expect_return(copy->ret, ret, what);
}

static void expect_end(struct job *copy, const char *what)
{
	expect_result(copy, copy->length, what);
}

/*
 * A vCPU touches a page whose tags are to be copied, on a CPU of its own, or on the
 * one that COPY_TAGS needs to go on, where nothing else would have it run.
 */
static void vcpu_touches_page(const struct mte_case *c, u64 direction, bool same_cpu)
{
	struct mte_vm *m = mte_vm_create_on(c->backing, SIZE, 0);
	struct late_page page = make_late_page();
	struct job copy = {
		.work = copy_tags, .cpu = same_cpu, .m = m, .ipa = IPA,
		.buffer = page.addr, .direction = direction,
	};
	struct job touch = { .work = touch_in_guest, .cpu = 1, .m = m, .ipa = IPA };
	bool in_time;

	need_two_cpus();
	start(&copy);
	await_fault(&page);
	start(&touch);
	/* On the same CPU it may well hang later, if it does not here. */
	in_time = await(&touch.done, same_cpu ? HEAD_START_S : PATIENCE_S);
	if (!same_cpu)
		mte_expect(in_time, "the vCPU is stuck while COPY_TAGS waits");
	let_page_come(&page, TAGS);

	if (same_cpu && !mte_expect(await(&copy.done, PATIENCE_S - HEAD_START_S),
				    "COPY_TAGS and the vCPU on one CPU are stuck")) {
		/* It may go on elsewhere, where no one spins. */
		bind_to_cpu(copy.tid, 0);
		ksft_print_msg("COPY_TAGS moves to another CPU\n");
	}
	expect_end(&copy, "afterwards");
	if (!await(&touch.done, PATIENCE_S))
		mte_die("the vCPU is stuck for ever");
	pthread_join(touch.thread, NULL);
	mte_expect_guest_sees(m, IPA, MTE_PAGE, direction == WRITE ? TAGS : MTE_ALL_ZERO,
			      "afterwards");
}

static void vcpu_touches(const struct mte_case *c)
{
	vcpu_touches_page(c, c->arg, false);
}

static void vcpu_on_same_cpu(const struct mte_case *c)
{
	vcpu_touches_page(c, WRITE, true);
}

static char *map_shared(int fd, int prot)
{
	return kvm_mmap(SIZE, PROT_READ | PROT_WRITE | prot, MAP_SHARED, fd);
}

/* What two processes see */
struct shared {
	bool go;
	bool done;
	long ret;
};

static struct shared *make_shared(void)
{
	return kvm_mmap(sizeof(struct shared), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1);
}

static void process_touches(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create(true);
	struct shared *shared = make_shared();
	struct job copy = {
		.work = copy_tags, .m = m, .ipa = IPA,
		.direction = WRITE,
	};
	struct late_page page;
	int fd = kvm_memfd_alloc(SIZE, false);
	pid_t pid;

	need_two_cpus();
	if (mte_vm_add_mapping(m, map_shared(fd, 0), SIZE))
		mte_die("cannot add a memfd: %s", strerror(errno));
	fflush(stdout);
	pid = fork();
	if (!pid) {
		char *mem = map_shared(fd, PROT_MTE);

		bind_to_cpu(0, 1);
		if (!await(&shared->go, 2 * PATIENCE_S))
			_exit(1);
		READ_ONCE(*mem);
		__atomic_store_n(&shared->done, true, __ATOMIC_RELEASE);
		_exit(0);
	}
	if (pid < 0)
		mte_die("no process: %s", strerror(errno));

	page = make_late_page();
	copy.buffer = page.addr;
	start(&copy);
	await_fault(&page);
	__atomic_store_n(&shared->go, true, __ATOMIC_RELEASE);
	mte_expect(await(&shared->done, PATIENCE_S),
		   "the other process is stuck while COPY_TAGS waits");
	let_page_come(&page, TAGS);

	expect_end(&copy, "afterwards");
	if (!await(&shared->done, PATIENCE_S))
		mte_die("the other process is stuck for ever");
	waitpid(pid, NULL, 0);
	mte_expect_guest_sees(m, IPA, MTE_PAGE, TAGS, "afterwards");
}

/*
 * Do @work beside a copy that waits for its buffer.
 */
static void beside_waiting_copy(const struct mte_case *c, struct job *job,
				const char *what)
{
	struct late_page page = make_late_page();
	struct job copy = {
		.work = copy_tags, .m = job->m, .ipa = IPA,
		.buffer = page.addr, .direction = c->arg,
	};

	start(&copy);
	await_fault(&page);
	start(job);
	mte_expect(await(&job->done, PATIENCE_S), "%s waits for a buffer that is not its own",
		   what);
	let_page_come(&page, TAGS);
	expect_end(&copy, "afterwards");
	if (!await(&job->done, PATIENCE_S))
		mte_die("%s is stuck for ever", what);
	pthread_join(job->thread, NULL);
}

static void other_copy(const struct mte_case *c)
{
	u8 tags[MTE_MAX_TAGS];
	struct job job = {
		.work = copy_tags, .m = mte_vm_create_on(c->backing, SIZE, 0),
		.buffer = tags, .direction = WRITE, .ipa = IPA + 2 * MTE_PAGE,
	};

	mte_fill_pattern(tags, sizeof(tags), 7);
	beside_waiting_copy(c, &job, "another copy");
	mte_expect_return(job.ret, MTE_PAGE, "the other copy");
	mte_expect_guest_sees(job.m, job.ipa, MTE_PAGE, 7, "the other copy");
}

static void slots_change(const struct mte_case *c)
{
	struct job job = {
		.work = change_slots, .m = mte_vm_create_on(c->backing, SIZE, 0),
	};

	beside_waiting_copy(c, &job, "a change of memslots");
	mte_expect_return(job.ret, 0, "the change of memslots");
}

/*
 * Have @copy wait for a page of the guest's memory, the second one. The page
 * before it is there, and has OLD_TAGS.
 */
static struct late_page copy_late_guest_page(const struct mte_case *c,
					     struct job *copy)
{
	size_t nr = SIZE / MTE_GRANULE;
	struct mte_vm *m = mte_vm_create_on(c->backing, SIZE, 0);
	struct late_page page;
	u8 *tags = malloc(nr);

	mte_guest_set_pattern(m, IPA, MTE_PAGE, OLD_TAGS);
	page = let_page_be_late(m->hva + MTE_PAGE);
	mte_fill_pattern(tags, nr, TAGS);
	*copy = (struct job) {
		.work = copy_tags, .m = m, .ipa = IPA, .length = SIZE,
		.buffer = tags, .direction = c->arg,
	};
	start(copy);
	await_fault(&page);

	return page;
}

static void guest_page_is_late(const struct mte_case *c)
{
	u8 *want = calloc(1, SIZE / MTE_GRANULE);
	struct job copy;
	struct late_page page = copy_late_guest_page(c, &copy);

	let_page_come(&page, TAGS);
	expect_end(&copy, "with that page");
	if (c->arg == WRITE) {
		mte_expect_guest_sees(copy.m, IPA, SIZE, TAGS, "afterwards");
		return;
	}
	mte_fill_pattern(want, MTE_GRANULES_PER_PAGE, OLD_TAGS);
	mte_expect(!memcmp(copy.buffer, want, SIZE / MTE_GRANULE),
		   "other tags were read");
}

/*
 * What the write found before it waited for the page is not so any more.
 */
static void guest_page_is_replaced(const struct mte_case *c)
{
	int fd = mte_open_file(MTE_PAGE);
	u8 tags[MTE_MAX_TAGS] = {}, zeros[MTE_MAX_TAGS] = {};
	struct job copy;
	struct late_page page = copy_late_guest_page(c, &copy);
	struct uffdio_range range = {
		.start = (uintptr_t)page.addr,
		.len = MTE_PAGE,
	};

	if (mmap(page.addr, MTE_PAGE, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED, fd, 0) != page.addr)
		mte_die("cannot map the file: %s", strerror(errno));
	if (ioctl(page.uffd, UFFDIO_WAKE, &range))
		mte_die("UFFDIO_WAKE: %s", strerror(errno));
	expect_result(&copy, MTE_PAGE, "with a file in place of a page");
	mte_expect_guest_sees(copy.m, IPA, MTE_PAGE, TAGS, "the page before");

	memset(tags, 0xee, MTE_GRANULES_PER_PAGE);
	mte_expect_return(mte_read_tags(copy.m, IPA + MTE_PAGE, tags, MTE_PAGE), MTE_PAGE,
			  "a read of the file's page");
	mte_expect(!memcmp(tags, zeros, sizeof(tags)), "the file's page has tags");
}

/*
 * In a process of its own, which can be left behind: if it spins it cannot even
 * be killed.
 */
static void copy_from_alias(struct shared *shared, u64 direction)
{
	struct kvm_arm_copy_mte_tags args = {
		.guest_ipa = IPA,
		.length = MTE_PAGE,
		.flags = direction,
	};
	struct mte_vm *m;
	u8 now[MTE_MAX_TAGS];
	int fd;

	/* What a process left behind has open must keep no other one waiting. */
	for (fd = 0; fd < 64; fd++)
		close(fd);
	if (open("/dev/null", O_RDWR) || dup(0) != 1 || dup(0) != 2)
		_exit(1);

	m = mte_vm_create(true);
	fd = kvm_memfd_alloc(SIZE, false);
	args.addr = map_shared(fd, 0);
	if (mte_vm_add_mapping(m, args.addr, SIZE))
		_exit(1);
	/* What to write, put into the page through the other mapping */
	mte_fill_pattern(args.addr, MTE_GRANULES_PER_PAGE, TAGS);
	args.addr = map_shared(fd, PROT_MTE);

	shared->ret = mte_copy(m, &args);
	if (shared->ret == MTE_PAGE && direction == WRITE) {
		if (mte_read_tags(m, IPA, now, MTE_PAGE) != MTE_PAGE ||
		    memcmp(now, args.addr, MTE_GRANULES_PER_PAGE))
			shared->ret = -EIO;
	}
	__atomic_store_n(&shared->done, true, __ATOMIC_RELEASE);
	_exit(0);
}

static void alias_of_the_page(const struct mte_case *c)
{
	struct shared *shared = make_shared();
	pid_t pid;

	need_two_cpus();
	fflush(stdout);
	pid = fork();
	if (!pid) {
		bind_to_cpu(0, 1);
		copy_from_alias(shared, c->arg);
	}
	if (pid < 0)
		mte_die("no process: %s", strerror(errno));

	if (!await(&shared->done, PATIENCE_S)) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			mte_die("the process of the copy died");
		kill(pid, SIGKILL);
		mte_die("COPY_TAGS spins for ever on a page that it locked itself");
	}
	waitpid(pid, NULL, 0);
	mte_expect_return(shared->ret, MTE_PAGE, "COPY_TAGS");
}

static const struct mte_case cases[] = {
	{ "vcpu_touches_page_whose_tags_a_write_waits_for", vcpu_touches, MTE_ON_ALL, WRITE },
	{ "vcpu_touches_page_whose_tags_a_read_waits_for", vcpu_touches, MTE_ON_ANON, READ },
	{ "process_maps_page_whose_tags_a_write_waits_for", process_touches, MTE_ON_OWN },
	{ "waiting_write_and_vcpu_on_one_cpu_both_end", vcpu_on_same_cpu, MTE_ON_SMALL },
	{ "waiting_write_blocks_no_other_copy", other_copy, MTE_ON_ANON, WRITE },
	{ "waiting_read_blocks_no_other_copy", other_copy, MTE_ON_ANON, READ },
	{ "waiting_write_blocks_no_memslot_change", slots_change, MTE_ON_ANON, WRITE },
	{ "waiting_read_blocks_no_memslot_change", slots_change, MTE_ON_ANON, READ },
	{ "write_waits_for_a_page_of_the_guest", guest_page_is_late, MTE_ON_SMALL, WRITE },
	{ "read_waits_for_a_page_of_the_guest", guest_page_is_late, MTE_ON_SMALL, READ },
	{ "page_that_meanwhile_became_a_file_gets_no_tags",
	  guest_page_is_replaced, MTE_ON_ANON, WRITE },
	{ "read_into_unfaulted_alias_of_the_page_ends", alias_of_the_page, MTE_ON_OWN, READ },
	/* Keep this the last one. */
	{ "write_from_unfaulted_alias_of_the_page_ends", alias_of_the_page, MTE_ON_OWN, WRITE },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_SIZE(cases));
}
