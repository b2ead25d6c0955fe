// SPDX-License-Identifier: GPL-2.0
/*
 * check_live_update_tags - allocation tags of a memfd that is handed over to the
 * next kernel
 *
 * The test preserves memfds with the live update orchestrator, and starts the
 * next kernel by kexec. There it has to be run once more, gets the memfds back
 * and checks them. Since no other test does that to a machine, it is run only
 * if MTE_TEST_LIVE_UPDATE names a directory with the next kernel, Image, and its
 * initramfs. Kernels want kho=on liveupdate=on; that the update was made is told
 * by a word that the test adds to the next kernel's command line.
 *
 * Properties:
 *
 * 1. the next kernel has all memfds, with their data
 * 2. all tags are as before, of base pages and of a huge page, also those that
 *    were set when the memfd was preserved already
 * 3. memory that had no tags has none when it becomes PROT_MTE, although its page
 *    frames had some before
 */
#define _GNU_SOURCE

#include <errno.h>
#include <linux/liveupdate.h>
#include <linux/reboot.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "mte_page_tags.h"

#define DEVICE		"/dev/liveupdate"
#define NAME		"check_live_update_tags"
#define UPDATED		NAME "=updated"

#define PAGES		64
#define STALE_TAG	0x9

enum memory { SMALL, HUGE, LATE, UNTAGGED, NR_MEMORIES };

static struct {
	char *mem;
	size_t size;
} areas[NR_MEMORIES];

/* What the next kernel can compute, too. No tag is zero: a lost one shows. */
static unsigned long word_at(enum memory which, size_t offset)
{
	return (offset + 1) * 0x9e3779b97f4a7c15UL ^ which;
}

static unsigned char tag_at(enum memory which, size_t offset)
{
	return 1 + (word_at(which, offset) >> 32) % 15;
}

static void map_area(enum memory which, int fd, int prot)
{
	char *room = reserve_aligned(areas[which].size, PROT_NONE);

	areas[which].mem = mmap(room, areas[which].size, prot, MAP_SHARED | MAP_FIXED, fd, 0);
	must(areas[which].mem == room, "mmap of memfd %d", which);
}

/* Returns the memfd, with data in it. */
static int create_area(enum memory which)
{
	int fd = memfd_create(NAME, 0);
	size_t i;

	must(fd >= 0 && !ftruncate(fd, areas[which].size), "memfd");
	map_area(which, fd, which == UNTAGGED ? PLAIN : TAGGED);
	if (which == HUGE)
		madvise(areas[which].mem, areas[which].size, MADV_HUGEPAGE);
	for (i = 0; i < areas[which].size; i += sizeof(unsigned long))
		*(unsigned long *)(areas[which].mem + i) = word_at(which, i);
	return fd;
}

static void set_tags(enum memory which)
{
	size_t i;

	for (i = 0; i < areas[which].size; i += GRANULE)
		set_tag(areas[which].mem + i, tag_at(which, i));
}

static void read_command_line(char *words, size_t size)
{
	int fd = open("/proc/cmdline", O_RDONLY);
	ssize_t length = read(fd, words, size - 1);

	must(length > 0, "/proc/cmdline");
	words[length - 1] = '\0';
	close(fd);
}

/* The next kernel gets the same command line, and the word that tells the test. */
static void load_next_kernel(const char *dir)
{
	char path[200], words[4096];
	int kernel, initrd;

	snprintf(path, sizeof(path), "%s/Image", dir);
	kernel = open(path, O_RDONLY);
	snprintf(path, sizeof(path), "%s/initramfs", dir);
	initrd = open(path, O_RDONLY);
	must(kernel >= 0 && initrd >= 0, "Image and initramfs in %s", dir);
	read_command_line(words, sizeof(words) - sizeof(UPDATED) - 1);
	strcat(words, " " UPDATED);
	must(!syscall(__NR_kexec_file_load, kernel, initrd, strlen(words) + 1, words, 0UL),
	     "kexec_file_load");
}

/* Does not return if all goes well. */
static void update(int device, const char *dir)
{
	struct liveupdate_ioctl_create_session session = {
		.size = sizeof(session), .name = NAME,
	};
	struct liveupdate_session_preserve_fd args = { .size = sizeof(args) };
	int i;

	must(!ioctl(device, LIVEUPDATE_IOCTL_CREATE_SESSION, &session), "a session");
	load_next_kernel(dir);
	dirty_free_memory(ANON, STALE_TAG);
	allow_huge_memfds();
	for (i = 0; i < NR_MEMORIES; i++) {
		if (!areas[i].size)
			continue;
		args.fd = create_area(i);
		args.token = i;
		if (i == SMALL || i == HUGE)
			set_tags(i);
		if (i == UNTAGGED)
			need_dirty_frames(areas[i].mem, areas[i].size);
		if (i == HUGE && !is_thp_tail(areas[i].mem + areas[i].size - page_size()))
			ksft_print_msg("no huge page was allocated\n");
		else
			must(!ioctl(session.fd, LIVEUPDATE_SESSION_PRESERVE_FD, &args),
			     "memfd %d", i);
	}
	/* A guest goes on running. */
	set_tags(LATE);
	ksft_print_msg("starting the next kernel\n");
	sync();
	syscall(__NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
		LINUX_REBOOT_CMD_KEXEC, NULL);
	must(false, "kexec");
}

static void take_back(int device)
{
	struct liveupdate_ioctl_retrieve_session session = {
		.size = sizeof(session), .name = NAME,
	};
	struct liveupdate_session_retrieve_fd args = { .size = sizeof(args) };
	struct liveupdate_session_finish finish = { .size = sizeof(finish) };
	int i;

	expect(!ioctl(device, LIVEUPDATE_IOCTL_RETRIEVE_SESSION, &session),
	       "the session is lost: %s", strerror(errno));
	for (i = 0; i < NR_MEMORIES; i++) {
		args.token = i;
		if (!areas[i].size || ioctl(session.fd, LIVEUPDATE_SESSION_RETRIEVE_FD, &args))
			ksft_print_msg("memfd %d is not there\n", i);
		else
			map_area(i, args.fd, TAGGED);
	}
	must(!ioctl(session.fd, LIVEUPDATE_SESSION_FINISH, &finish), "finish");
	close(session.fd);
}

static void set_up(void)
{
	const char *dir = getenv("MTE_TEST_LIVE_UPDATE");
	char words[4096];
	int device, i;

	if (access(DEVICE, F_OK))
		skip("kernel without live update");
	if (!dir)
		skip("starts another kernel; set MTE_TEST_LIVE_UPDATE to run it");
	if (geteuid())
		skip("needs root");
	device = open(DEVICE, O_RDWR);
	must(device >= 0, DEVICE);
	for (i = 0; i < NR_MEMORIES; i++)
		areas[i].size = i == HUGE ? thp_size() : PAGES * page_size();
	read_command_line(words, sizeof(words));
	if (strstr(words, UPDATED))
		take_back(device);
	else
		update(device, dir);
	close(device);
}

static void test_data(const struct test *test)
{
	size_t offset, wrong = 0;
	int i;

	for (i = 0; i < NR_MEMORIES; i++) {
		expect(areas[i].mem || i == HUGE, "memfd %d is not there", i);
		for (offset = 0; areas[i].mem && offset < areas[i].size; offset += sizeof(long))
			wrong += *(unsigned long *)(areas[i].mem + offset) !=
				 word_at(i, offset);
	}
	expect(!wrong, "%zu words are wrong", wrong);
}

/* arg: the area */
static void test_tags(const struct test *test)
{
	enum memory which = *(const enum memory *)test->arg;
	size_t i, wrong = 0;

	if (which == HUGE && !areas[which].mem)
		skip("no huge page in a memfd");
	expect(areas[which].mem, "memfd %d is not there", which);
	for (i = 0; i < areas[which].size; i += GRANULE)
		wrong += get_tag(areas[which].mem + i) != tag_at(which, i);
	expect(!wrong, "%zu of %zu tags are wrong", wrong, areas[which].size / GRANULE);
}

static void test_no_tags(const struct test *test)
{
	size_t seen, granules = areas[UNTAGGED].size / GRANULE;

	expect(areas[UNTAGGED].mem, "memfd %d is not there", UNTAGGED);
	seen = count_nonzero_tags(areas[UNTAGGED].mem, granules);
	expect(!seen, "%zu of %zu tags are not zero", seen, granules);
}

static const enum memory small = SMALL, huge = HUGE, late = LATE;

static const struct test tests[] = {
	{ "live_update_keeps_data", test_data },
	{ "live_update_keeps_tags", test_tags, .arg = &small },
	{ "live_update_keeps_tags_of_huge_page", test_tags, .arg = &huge },
	{ "live_update_keeps_tags_set_after_preservation", test_tags, .arg = &late },
	{ "live_update_shows_no_stale_tags", test_no_tags },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, NULL);
}
