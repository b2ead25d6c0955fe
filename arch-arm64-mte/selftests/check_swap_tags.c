// SPDX-License-Identifier: GPL-2.0
/*
 * check_swap_tags - allocation tags of pages that go to swap and come back
 *
 * The test makes itself a zram device, uses it as swap with the highest
 * priority, and pages memory with random tags out by MADV_PAGEOUT. The pagemap
 * must say that every page is swapped out, or the test has shown nothing.
 *
 * Scenarios and properties:
 *
 * 1. private anonymous memory is read back: each tag and all data are as
 *    before
 * 2. the same, but swapoff() brings the pages back
 * 3. fork() while the pages are swapped out: parent and child both find them
 * 4. shared memory (memfd) is read back
 * 5. tags are in place before the page is flagged as tagged: whenever
 *    mte_restore_page_tags() is entered, the flag is still clear. This one
 *    needs the race_window module, which looks at the flag there; entered
 *    never is a failure.
 */
#define _GNU_SOURCE

#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "mte_page_tags.h"
#include "mte_race_window.h"

#define PAGES		64
#define SWAP_BYTES	(32UL << 20)
#define NODE		"/tmp/check_swap_tags.zram"

static int zram = -1;
static bool swap_is_on;

static long read_number(const char *path)
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

static bool write_number(const char *path, unsigned long value)
{
	FILE *f = fopen(path, "w");
	bool ok;

	if (!f)
		return false;
	ok = fprintf(f, "%lu", value) > 0;
	return !fclose(f) && ok;
}

/* Create /tmp/... for the new device: the system may not run devtmpfs */
static bool make_node(void)
{
	unsigned int major, minor;
	char path[64];
	FILE *f;
	int n;

	snprintf(path, sizeof(path), "/sys/block/zram%d/dev", zram);
	f = fopen(path, "r");
	if (!f)
		return false;
	n = fscanf(f, "%u:%u", &major, &minor);
	fclose(f);
	mkdir("/tmp", 01777);
	unlink(NODE);
	return n == 2 && !mknod(NODE, S_IFBLK | 0600, makedev(major, minor));
}

/* The header that mkswap writes: version 1, all pages good */
static bool write_swap_header(void)
{
	size_t size = page_size();
	char *header = calloc(1, size);
	unsigned int *info = (unsigned int *)(header + 1024);
	bool ok;
	int fd;

	info[0] = 1;			/* version */
	info[1] = SWAP_BYTES / size - 1;	/* last page */
	memcpy(header + size - 10, "SWAPSPACE2", 10);

	fd = open(NODE, O_WRONLY);
	ok = fd >= 0 && pwrite(fd, header, size, 0) == (ssize_t)size &&
	     !fsync(fd);
	if (fd >= 0)
		close(fd);
	free(header);
	return ok;
}

static bool swap_on(void)
{
	swap_is_on = !swapon(NODE, SWAP_FLAG_PREFER | SWAP_FLAG_PRIO_MASK);
	return swap_is_on;
}

static bool swap_off(void)
{
	if (swapoff(NODE))
		return false;
	swap_is_on = false;
	return true;
}

/* Returns the reason why there is no swap, or NULL */
static const char *set_up_swap(void)
{
	char path[64];

	if (geteuid())
		return "needs root to set up swap";
	zram = read_number("/sys/class/zram-control/hot_add");
	if (zram < 0)
		return "no zram (/sys/class/zram-control/hot_add)";
	snprintf(path, sizeof(path), "/sys/block/zram%d/disksize", zram);
	if (!write_number(path, SWAP_BYTES))
		return "cannot set the size of the zram device";
	if (!make_node())
		return "cannot make a node for the zram device";
	if (!write_swap_header())
		return "cannot write the swap header";
	if (!swap_on())
		return "swapon failed";
	return NULL;
}

static void tear_down_swap(void)
{
	char path[64];

	if (swap_is_on)
		swap_off();
	unlink(NODE);
	if (zram < 0)
		return;
	snprintf(path, sizeof(path), "/sys/block/zram%d/reset", zram);
	write_number(path, 1);
	write_number("/sys/class/zram-control/hot_remove", zram);
}

/* Tagged memory and what it must contain */
struct area {
	char *mem;
	unsigned char *tags;
	size_t size, granules;
};

static bool area_create(struct area *a, bool shared)
{
	int fd = -1;
	size_t i;

	a->size = PAGES * page_size();
	a->granules = a->size / GRANULE;
	a->tags = malloc(a->granules);
	if (shared) {
		fd = memfd_create("check_swap_tags", 0);
		if (fd < 0 || ftruncate(fd, a->size))
			return false;
		a->mem = mmap(NULL, a->size, TAGGED, MAP_SHARED, fd, 0);
		close(fd);
	} else {
		a->mem = mmap(NULL, a->size, TAGGED,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	if (a->mem == MAP_FAILED)
		return false;
	for (i = 0; i < a->size; i += sizeof(unsigned long))
		*(unsigned long *)(a->mem + i) = ~i;
	make_random_tags(a->tags, a->granules);
	write_tags(a->mem, a->tags, a->granules);
	return true;
}

static void area_destroy(struct area *a)
{
	munmap(a->mem, a->size);
	free(a->tags);
}

static size_t count_wrong_data(const struct area *a)
{
	size_t i, wrong = 0;

	for (i = 0; i < a->size; i += sizeof(unsigned long))
		wrong += *(unsigned long *)(a->mem + i) != ~i;
	return wrong;
}

/*
 * A page counts once it has left the swap cache, too, which mincore() tells.
 * The pagemap has no swap entries for shared memory.
 */
static size_t area_pages_out(const struct area *a, bool shared)
{
	unsigned char in[PAGES];
	size_t i, out = 0;

	if (!shared && count_swapped_pages(a->mem, PAGES) != PAGES)
		return 0;
	for (i = 0; i < PAGES; i++)
		if (pagemap_entry(a->mem + i * page_size()) & PAGEMAP_PRESENT)
			return 0;
	if (mincore(a->mem, a->size, in))
		return 0;
	for (i = 0; i < PAGES; i++)
		out += !(in[i] & 1);
	return out;
}

/* Some pages may be busy at first */
static bool area_page_out(const struct area *a, bool shared)
{
	size_t out = 0;
	int i;

	for (i = 0; i < 50; i++) {
		if (madvise(a->mem, a->size, MADV_PAGEOUT)) {
			ksft_print_msg("MADV_PAGEOUT: %s\n", strerror(errno));
			return false;
		}
		out = area_pages_out(a, shared);
		if (out == PAGES)
			return true;
		usleep(10000);
	}
	ksft_print_msg("only %zu of %d pages were swapped out\n", out, PAGES);
	return false;
}

static bool area_intact(const struct area *a, const char *who)
{
	size_t tags = count_wrong_tags(a->mem, a->tags, a->granules);
	size_t data = count_wrong_data(a);

	ksft_print_msg("%s: of %zu tags %zu are wrong, of %zu words %zu\n", who,
		       a->granules, tags, a->size / sizeof(unsigned long), data);
	return !tags && !data;
}

static bool swap_in_restores(bool shared)
{
	struct area a;
	bool ok;

	if (!area_create(&a, shared))
		return false;
	ok = area_page_out(&a, shared) && area_intact(&a, "read back");
	area_destroy(&a);
	return ok;
}

static bool test_anonymous(void)
{
	return swap_in_restores(false);
}

static bool test_shared(void)
{
	return swap_in_restores(true);
}

static bool test_swapoff(void)
{
	struct area a;
	bool ok = false;

	if (!area_create(&a, false))
		return false;
	if (!area_page_out(&a, false))
		goto out;
	if (!swap_off()) {
		ksft_print_msg("swapoff: %s\n", strerror(errno));
		goto out;
	}
	ok = !count_swapped_pages(a.mem, PAGES) &&
	     area_intact(&a, "after swapoff");
	if (!write_swap_header() || !swap_on()) {
		ksft_print_msg("swapon after swapoff: %s\n", strerror(errno));
		ok = false;
	}
out:
	area_destroy(&a);
	return ok;
}

static bool test_fork(void)
{
	struct area a;
	bool ok = false;
	int status;
	pid_t pid;

	if (!area_create(&a, false))
		return false;
	if (area_page_out(&a, false)) {
		pid = fork();
		if (!pid)
			_exit(!area_intact(&a, "child"));
		ok = area_intact(&a, "parent");
		ok &= pid > 0 && waitpid(pid, &status, 0) == pid && !status;
	}
	area_destroy(&a);
	return ok;
}

static bool test_publication(void)
{
	long hits, early;
	struct area a;
	bool ok;
	int ret;

	if (!area_create(&a, false))
		return false;
	ret = race_window_arm("mte_restore_page_tags", 0, 0);
	if (ret) {
		ksft_print_msg("cannot arm race_window: %s\n", strerror(-ret));
		area_destroy(&a);
		return false;
	}
	ok = area_page_out(&a, false) && area_intact(&a, "read back");
	hits = race_window_hits();
	early = race_window_early();
	race_window_disarm();
	ksft_print_msg("tags restored %ld times, page flagged before %ld times\n",
		       hits, early);
	area_destroy(&a);
	return ok && hits >= PAGES && !early;
}

static const struct test {
	const char *property;
	bool (*run)(void);
	bool needs_module;
} tests[] = {
	{ "swap_in_restores_tags", test_anonymous, false },
	{ "swapoff_restores_tags", test_swapoff, false },
	{ "fork_of_swapped_pages_keeps_tags", test_fork, false },
	{ "shared_memory_swap_in_restores_tags", test_shared, false },
	{ "swap_in_publishes_flag_after_tags", test_publication, true },
};

int main(void)
{
	const char *skip;
	size_t i;

	ksft_print_header();
	ksft_set_plan(ARRAY_SIZE(tests));
	setbuf(stdout, NULL);

	skip = cpu_has_mte() ? set_up_swap() : "no MTE";

	for (i = 0; i < ARRAY_SIZE(tests); i++) {
		if (skip)
			ksft_test_result_skip("%s: %s\n", tests[i].property,
					      skip);
		else if (tests[i].needs_module && !race_window_loaded())
			ksft_test_result_skip("%s: %s\n", tests[i].property,
					      RACE_WINDOW_MISSING);
		else
			ksft_test_result(tests[i].run(), "%s\n",
					 tests[i].property);
	}

	tear_down_swap();
	finish();
	return 0;
}
