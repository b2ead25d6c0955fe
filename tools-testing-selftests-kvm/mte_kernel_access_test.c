// SPDX-License-Identifier: GPL-2.0
/*
 * mte_kernel_access_test - the kernel's own accesses to tagged guest memory
 *
 * The guest has a different tag at each granule of its memory. The kernel reads
 * that memory and writes to it, by way of its linear map and on behalf of
 * process_vm_readv() and process_vm_writev(). Whatever the tags are, the data
 * arrive, the tags stay as they are, and a kernel that checks the tags of its
 * own accesses (KASAN_HW_TAGS) reports nothing. Other kernels do not check them,
 * and prove little.
 *
 * This is done for each kind of memory, which includes hugetlb pages that are
 * too big for the buddy allocator.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "kselftest.h"
#include "mte.h"

#define IPA		MTE_REGION_IPA
#define SIZE		MTE_BLOCK
#define TAGS		0x6a5ULL

/* The kernel's pointers know nothing of the guest's tags. */
static void kernel_accesses(struct mte_vm *m)
{
	char *mem = m->hva, *data = malloc(SIZE);
	struct iovec remote = { .iov_base = mem, .iov_len = SIZE };
	struct iovec local = { .iov_base = data, .iov_len = SIZE };
	ssize_t done;

	if (mte_begin_watching_log(false))
		mte_skip("a kernel stops to check its accesses at its first report");
	memset(mem, 0x5a, SIZE);
	mte_guest_set_pattern(m, IPA, SIZE, TAGS);

	done = process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	mte_expect(done == SIZE, "process_vm_readv() returned %zd", done);
	mte_expect(!memcmp(mem, data, SIZE), "other data were read");

	memset(data, 0xa5, SIZE);
	done = process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	mte_expect(done == SIZE, "process_vm_writev() returned %zd", done);
	mte_expect(!memcmp(mem, data, SIZE), "other data were written");

	mte_expect_tags(m, IPA, SIZE, TAGS, "afterwards");
	mte_end_watching_log("BUG: KASAN", "");
	if (!mte_kernel_has("kasan_init_hw_tags_cpu"))
		ksft_print_msg("data and tags only: this kernel does not check its accesses\n");
}

static void access_memory(const struct mte_case *c)
{
	kernel_accesses(mte_vm_create_on(c->backing, SIZE, 0));
}

/* The buddy allocator has a column for each of its sizes. */
static size_t largest_of_buddy_allocator(void)
{
	FILE *f = fopen("/proc/buddyinfo", "r");
	char line[512] = "", *at;
	size_t size = MTE_PAGE / 2;

	if (!f || !fgets(line, sizeof(line), f))
		mte_skip("no buddyinfo");
	fclose(f);
	strtok(strstr(line, "zone"), " ");
	for (at = strtok(NULL, " "); (at = strtok(NULL, "\n ")); size *= 2)
		;

	return size;
}

static void access_gigantic_page(const struct mte_case *c)
{
	size_t size = mte_hugetlb_size(largest_of_buddy_allocator());
	struct mte_vm *m = mte_vm_create(true);
	char *mem, pool[80];

	if (!size)
		mte_skip("the kernel has no gigantic pages");
	snprintf(pool, sizeof(pool),
		 "/sys/kernel/mm/hugepages/hugepages-%zukB/nr_hugepages", size / 1024);
	/* Made at run time, not at boot */
	if (mte_tunable(pool))
		mte_skip("the pool of gigantic pages is in use");
	mte_set_tunable(pool, 1);
	mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
		   __builtin_ctzl(size) << MAP_HUGE_SHIFT, -1, 0);
	if (mem == MAP_FAILED)
		mte_skip("no gigantic page: %s", strerror(errno));
	if (mte_vm_add_mapping(m, mem, SIZE))
		mte_die("cannot add the page: %s", strerror(errno));
	kernel_accesses(m);
}

static const struct mte_case cases[] = {
	{ "kernel_can_access_tagged_memory", access_memory, MTE_ON_ALL_SIZES },
	{ "kernel_can_access_tagged_gigantic_hugetlb_page",
	  access_gigantic_page, MTE_IF(MTE_ABI_HUGETLB, MTE_ON_OWN) },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_SIZE(cases));
}
