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
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
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
/* A slot that comes and goes while the ioctl waits */
#define OTHER_SLOT	9
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
	char *addr = mmap(NULL, MTE_PAGE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		mte_die("no memory: %s", strerror(errno));

	return let_page_be_late(addr);
}

/* Wait until somebody waits for the page. */
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
	/* The CPU to do it on, as bind_to_cpu(): the one that may spin is not ours, 0 */
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

/* One of them spins where things go wrong; that should not be ours. */
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
	job->tid = mte_thread_id();
	job->work(job);
	__atomic_store_n(&job->done, true, __ATOMIC_RELEASE);

	return NULL;
}

static void start(struct job *job)
{
	if (!job->length)
		job->length = MTE_PAGE;
	if (pthread_create(&job->thread, NULL, job_main, job))
		mte_die("no thread");
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
	job->ret = mte_vm_set_slot(job->m, OTHER_SLOT, 0, OTHER_IPA, MTE_PAGE,
				   mte_vm_hva(job->m));
	if (!job->ret)
		job->ret = mte_vm_set_slot(job->m, OTHER_SLOT, 0, OTHER_IPA, 0,
					   mte_vm_hva(job->m));
}

/* The ioctl has all it needs now. */
static void expect_result(struct job *copy, long ret, const char *what)
{
	if (!await(&copy->done, PATIENCE_S))
		mte_die("%s: COPY_TAGS does not end", what);
	pthread_join(copy->thread, NULL);
	mte_expect(copy->ret == ret, "%s: COPY_TAGS returned %ld", what,
		   copy->ret);
}

static void expect_end(struct job *copy, const char *what)
{
	expect_result(copy, copy->length, what);
}

static void vcpu_touches(const struct mte_case *c)
{
	struct late_page page = make_late_page();
	struct job copy = {
		.work = copy_tags, .ipa = IPA, .buffer = page.addr,
		.direction = c->arg,
	};
	struct job touch = { .work = touch_in_guest, .cpu = 1, .ipa = IPA };
	bool in_time;

	need_two_cpus();
	copy.m = mte_vm_create(true);
	touch.m = copy.m;
	mte_vm_add_memory(copy.m, c->backing, SIZE);

	start(&copy);
	await_fault(&page);
	start(&touch);
	in_time = await(&touch.done, PATIENCE_S);
	mte_expect(in_time, "the vCPU is stuck while COPY_TAGS waits");
	let_page_come(&page, TAGS);

	expect_end(&copy, "afterwards");
	if (!in_time && await(&touch.done, PATIENCE_S))
		ksft_print_msg("the vCPU went on when COPY_TAGS had ended\n");
	pthread_join(touch.thread, NULL);
	if (c->arg == WRITE)
		mte_expect_guest_sees(copy.m, IPA, MTE_PAGE, TAGS, "afterwards");
	else
		mte_expect_guest_sees(copy.m, IPA, MTE_PAGE, MTE_ALL_ZERO,
				      "afterwards");
}

/*
 * Nobody else is there to run while the vCPU occupies the CPU that COPY_TAGS
 * needs to go on.
 */
static void vcpu_on_same_cpu(const struct mte_case *c)
{
	struct late_page page = make_late_page();
	struct job copy = {
		.work = copy_tags, .cpu = 1, .ipa = IPA, .buffer = page.addr,
		.direction = WRITE,
	};
	struct job touch = { .work = touch_in_guest, .cpu = 1, .ipa = IPA };

	need_two_cpus();
	copy.m = mte_vm_create(true);
	touch.m = copy.m;
	mte_vm_add_memory(copy.m, c->backing, SIZE);

	start(&copy);
	await_fault(&page);
	start(&touch);
	/* If it does not hang here it may well hang later. */
	await(&touch.done, HEAD_START_S);
	let_page_come(&page, TAGS);

	if (!mte_expect(await(&copy.done, PATIENCE_S - HEAD_START_S),
			"COPY_TAGS and the vCPU on one CPU are stuck")) {
		/* It may go on elsewhere, where no one spins. */
		bind_to_cpu(copy.tid, 0);
		ksft_print_msg("COPY_TAGS moves to another CPU\n");
	}
	expect_end(&copy, "afterwards");
	if (!await(&touch.done, PATIENCE_S))
		mte_die("the vCPU is stuck for ever");
	pthread_join(touch.thread, NULL);
	mte_expect_guest_sees(copy.m, IPA, MTE_PAGE, TAGS, "afterwards");
}

/*
 * Shared memory of our own, of which the tests get the file, too
 */
static int add_memfd(struct mte_vm *m)
{
	int fd = syscall(__NR_memfd_create, "mte_test", 0);
	void *mem;
	long ret;

	if (fd < 0 || ftruncate(fd, SIZE))
		mte_skip("no memfd: %s", strerror(errno));
	mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mem == MAP_FAILED)
		mte_die("cannot map a memfd: %s", strerror(errno));
	ret = mte_vm_add_mapping(m, mem, SIZE);
	if (ret == -EINVAL)
		mte_skip("the kernel refuses shared memory in an MTE VM");
	if (ret)
		mte_die("cannot add a memfd: %s", strerror(-ret));

	return fd;
}

static char *map_with_mte(int fd)
{
	char *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE | PROT_MTE,
			 MAP_SHARED, fd, 0);

	if (mem == MAP_FAILED)
		mte_die("cannot map with PROT_MTE: %s", strerror(errno));

	return mem;
}

/* What two processes see */
struct shared {
	bool go;
	bool done;
	long ret;
	bool skipped;
};

static struct shared *make_shared(void)
{
	struct shared *shared = mmap(NULL, sizeof(*shared),
				     PROT_READ | PROT_WRITE,
				     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		mte_die("no memory: %s", strerror(errno));

	return shared;
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
	int fd = add_memfd(m);
	pid_t pid;

	need_two_cpus();
	fflush(stdout);
	pid = fork();
	if (!pid) {
		char *mem = map_with_mte(fd);

		bind_to_cpu(0, 1);
		if (!await(&shared->go, 2 * PATIENCE_S))
			_exit(1);
		READ_ONCE(*mem);
		__atomic_store_n(&shared->done, true, __ATOMIC_RELEASE);
		_exit(0);
	}
	if (pid < 0)
		mte_die("no process");

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
	u8 tags[MTE_GRANULES_PER_PAGE];
	struct job job = {
		.work = copy_tags, .buffer = tags, .direction = WRITE,
		.ipa = IPA + 2 * MTE_PAGE,
	};

	job.m = mte_vm_create(true);
	mte_vm_add_memory(job.m, c->backing, SIZE);
	mte_fill_pattern(tags, sizeof(tags), 7);
	beside_waiting_copy(c, &job, "another copy");
	mte_expect(job.ret == MTE_PAGE, "the other copy returned %ld", job.ret);
	mte_expect_guest_sees(job.m, job.ipa, MTE_PAGE, 7, "the other copy");
}

static void slots_change(const struct mte_case *c)
{
	struct job job = { .work = change_slots };

	job.m = mte_vm_create(true);
	mte_vm_add_memory(job.m, c->backing, SIZE);
	beside_waiting_copy(c, &job, "a change of memslots");
	mte_expect(!job.ret, "the change of memslots returned %ld", job.ret);
}

/*
 * Have @copy wait for a page of the guest's memory, the second one. The page
 * before it is there, and has OLD_TAGS.
 */
static struct late_page copy_late_guest_page(const struct mte_case *c,
					     struct job *copy)
{
	size_t nr = SIZE / MTE_GRANULE;
	struct mte_vm *m = mte_vm_create(true);
	struct late_page page;
	u8 *tags = malloc(nr);

	mte_vm_add_memory(m, c->backing, SIZE);
	mte_guest_set_pattern(m, IPA, MTE_PAGE, OLD_TAGS);
	page = let_page_be_late(mte_vm_hva(m) + MTE_PAGE);
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
	u8 now[MTE_GRANULES_PER_PAGE];
	int fd;

	/* Nobody shall wait for the end of what a process left behind has open. */
	for (fd = 0; fd < 64; fd++)
		close(fd);
	if (open("/dev/null", O_RDWR) || dup(0) != 1 || dup(0) != 2)
		_exit(1);

	m = mte_vm_create(true);
	fd = syscall(__NR_memfd_create, "mte_test", 0);
	if (fd < 0 || ftruncate(fd, SIZE))
		_exit(1);
	args.addr = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mte_vm_add_mapping(m, args.addr, SIZE)) {
		shared->skipped = true;
		__atomic_store_n(&shared->done, true, __ATOMIC_RELEASE);
		_exit(0);
	}
	/* What to write, put into the page through the other mapping */
	mte_fill_pattern(args.addr, MTE_GRANULES_PER_PAGE, TAGS);
	args.addr = map_with_mte(fd);

	shared->ret = mte_copy(m, &args);
	if (shared->ret == MTE_PAGE && direction == WRITE) {
		if (mte_read_tags(m, IPA, now, MTE_PAGE) != MTE_PAGE ||
		    memcmp(now, args.addr, sizeof(now)))
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
		mte_die("no process");

	if (!await(&shared->done, PATIENCE_S)) {
		if (waitpid(pid, NULL, WNOHANG) == pid)
			mte_die("the process of the copy died");
		kill(pid, SIGKILL);
		mte_die("COPY_TAGS spins for ever on a page that it locked itself");
	}
	waitpid(pid, NULL, 0);
	if (shared->skipped)
		mte_skip("the kernel refuses shared memory in an MTE VM");
	mte_expect(shared->ret == MTE_PAGE, "COPY_TAGS returned %ld",
		   shared->ret);
}

static const struct mte_case cases[] = {
	{ "vcpu_touches_page_whose_tags_a_write_waits_for", vcpu_touches,
	  MTE_ON_ALL, WRITE },
	{ "vcpu_touches_page_whose_tags_a_read_waits_for", vcpu_touches,
	  MTE_ON_ANON, READ },
	{ "process_maps_page_whose_tags_a_write_waits_for", process_touches,
	  MTE_ON_OWN },
	{ "waiting_write_and_vcpu_on_one_cpu_both_end", vcpu_on_same_cpu,
	  MTE_ON_SMALL },
	{ "waiting_write_blocks_no_other_copy", other_copy,
	  MTE_ON_ANON, WRITE },
	{ "waiting_read_blocks_no_other_copy", other_copy, MTE_ON_ANON, READ },
	{ "waiting_write_blocks_no_memslot_change", slots_change,
	  MTE_ON_ANON, WRITE },
	{ "waiting_read_blocks_no_memslot_change", slots_change,
	  MTE_ON_ANON, READ },
	{ "write_waits_for_a_page_of_the_guest", guest_page_is_late,
	  MTE_ON_SMALL, WRITE },
	{ "read_waits_for_a_page_of_the_guest", guest_page_is_late,
	  MTE_ON_SMALL, READ },
	{ "page_that_meanwhile_became_a_file_gets_no_tags",
	  guest_page_is_replaced, MTE_ON_ANON, WRITE },
	{ "read_into_unfaulted_alias_of_the_page_ends", alias_of_the_page,
	  MTE_ON_OWN, READ },
	/* Keep this the last one. */
	{ "write_from_unfaulted_alias_of_the_page_ends", alias_of_the_page,
	  MTE_ON_OWN, WRITE },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_LEN(cases));
}
