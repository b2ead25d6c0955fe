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
 * 3. memory that had no tags has none when it becomes PROT_MTE
 */
#define _GNU_SOURCE

#include <linux/reboot.h>
#include <linux/types.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "mte_page_tags.h"

/* uapi/linux/liveupdate.h, for trees without it */
struct session_args {
	__u32 size;
	__s32 fd;
	__u8 name[64];
};

struct fd_args {
	__u32 size;
	__s32 fd;
	__u64 token;
};

struct finish_args {
	__u32 size;
	__u32 reserved;
};

#define CREATE_SESSION		_IO(0xba, 0x00)
#define RETRIEVE_SESSION	_IO(0xba, 0x01)
#define PRESERVE_FD		_IO(0xba, 0x40)
#define RETRIEVE_FD		_IO(0xba, 0x41)
#define FINISH			_IO(0xba, 0x42)

#define DEVICE		"/dev/liveupdate"
#define UPDATED		"check_live_update_tags=updated"

#define PAGES		64
#define STALE_TAG	0x9

enum memory { SMALL, HUGE, LATE, UNTAGGED, NR_MEMORIES };

static struct {
	char *mem;
	size_t size;
} areas[NR_MEMORIES];
static bool updated;

/* What the next kernel can compute, too. No tag is zero: a lost one shows. */
static unsigned long word_at(enum memory which, size_t offset)
{
	return (offset + 1) * 0x9e3779b97f4a7c15UL ^ which;
}

static unsigned char tag_at(enum memory which, size_t offset)
{
	return 1 + (word_at(which, offset) >> 32) % 15;
}

static bool map_area(enum memory which, int fd, int prot)
{
	char *room = reserve_aligned(areas[which].size, PROT_NONE);

	if (room)
		room = mmap(room, areas[which].size, prot,
			    MAP_SHARED | MAP_FIXED, fd, 0);
	if (!room || room == MAP_FAILED) {
		ksft_print_msg("cannot map memfd %d: %s\n", which,
			       strerror(errno));
		return false;
	}
	areas[which].mem = room;
	return true;
}

static void set_sizes(void)
{
	int i;

	for (i = 0; i < NR_MEMORIES; i++)
		areas[i].size = PAGES * page_size();
	areas[HUGE].size = thp_size();
}

/* Returns the memfd, with data in it; -1 on failure. */
static int create_area(enum memory which)
{
	int fd = memfd_create("check_live_update_tags", 0);
	size_t i;

	if (fd < 0 || ftruncate(fd, areas[which].size) ||
	    !map_area(which, fd, which == UNTAGGED ? PLAIN : TAGGED))
		return -1;
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

static bool preserve_memfd(int session, enum memory which, int fd)
{
	struct fd_args args = {
		.size = sizeof(args), .fd = fd, .token = which,
	};

	if (fd >= 0 && !ioctl(session, PRESERVE_FD, &args))
		return true;
	ksft_print_msg("cannot preserve memfd %d: %s\n", which,
		       strerror(errno));
	return false;
}

/* The next kernel gets our command line, and the word that tells the test. */
static bool load_next_kernel(const char *dir)
{
	char path[200], words[4096];
	int kernel, initrd, file;
	ssize_t length;

	snprintf(path, sizeof(path), "%s/Image", dir);
	kernel = open(path, O_RDONLY);
	snprintf(path, sizeof(path), "%s/initramfs", dir);
	initrd = open(path, O_RDONLY);
	file = open("/proc/cmdline", O_RDONLY);
	length = read(file, words, sizeof(words) - sizeof(UPDATED) - 1);
	if (kernel < 0 || initrd < 0 || length <= 0) {
		ksft_print_msg("no Image and initramfs in %s\n", dir);
		return false;
	}
	length--;
	snprintf(words + length, sizeof(words) - length, " " UPDATED);
	if (!syscall(__NR_kexec_file_load, kernel, initrd, strlen(words) + 1,
		     words, 0UL))
		return true;
	ksft_print_msg("kexec_file_load: %s\n", strerror(errno));
	return false;
}

/* Does not return if all goes well. */
static void update(int device, const char *dir)
{
	struct session_args session = {
		.size = sizeof(session), .name = "check_live_update_tags",
	};
	int fds[NR_MEMORIES], i;

	if (ioctl(device, CREATE_SESSION, &session)) {
		ksft_print_msg("no session: %s\n", strerror(errno));
		return;
	}
	if (!load_next_kernel(dir) || !dirty_free_memory(ANON, STALE_TAG))
		return;
	allow_thp();
	allow_huge_memfds();
	for (i = 0; i < NR_MEMORIES; i++) {
		if (!areas[i].size)
			continue;
		fds[i] = create_area(i);
		if (i == SMALL || i == HUGE)
			set_tags(i);
		if (i == HUGE && !is_thp_tail(areas[i].mem + areas[i].size -
					      page_size()))
			ksft_print_msg("no huge page was allocated\n");
		else if (!preserve_memfd(session.fd, i, fds[i]))
			return;
	}
	/* A guest goes on running. */
	set_tags(LATE);
	ksft_print_msg("starting the next kernel\n");
	sync();
	syscall(__NR_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
		LINUX_REBOOT_CMD_KEXEC, NULL);
	ksft_print_msg("no kexec: %s\n", strerror(errno));
}

static void take_back(int device)
{
	struct session_args session = {
		.size = sizeof(session), .name = "check_live_update_tags",
	};
	struct finish_args finish = { .size = sizeof(finish) };
	struct fd_args args = { .size = sizeof(args) };
	int i;

	if (ioctl(device, RETRIEVE_SESSION, &session)) {
		ksft_print_msg("the session is lost: %s\n", strerror(errno));
		return;
	}
	for (i = 0; i < NR_MEMORIES; i++) {
		args.token = i;
		if (!areas[i].size || ioctl(session.fd, RETRIEVE_FD, &args))
			ksft_print_msg("memfd %d is not there\n", i);
		else
			map_area(i, args.fd, TAGGED);
	}
	if (ioctl(session.fd, FINISH, &finish))
		ksft_print_msg("cannot finish: %s\n", strerror(errno));
	close(session.fd);
	updated = true;
}

static bool was_updated(void)
{
	char words[4096] = "";
	int fd = open("/proc/cmdline", O_RDONLY);
	ssize_t length = read(fd, words, sizeof(words) - 1);

	close(fd);
	return length > 0 && strstr(words, UPDATED);
}

static const char *set_up(void)
{
	const char *dir = getenv("MTE_TEST_LIVE_UPDATE");
	int device;

	if (access(DEVICE, F_OK))
		return "kernel without live update";
	if (!dir)
		return "starts another kernel; set MTE_TEST_LIVE_UPDATE to run it";
	if (geteuid())
		return "needs root";
	device = open(DEVICE, O_RDWR);
	if (device < 0)
		return "live update is in use";
	set_sizes();
	if (was_updated())
		take_back(device);
	else
		update(device, dir);
	close(device);
	return NULL;
}

static bool test_data(const struct test *test)
{
	size_t offset, wrong = 0;
	int i;

	if (!updated)
		return false;
	for (i = 0; i < NR_MEMORIES; i++) {
		if (!areas[i].mem && i == HUGE)
			continue;
		if (!areas[i].mem)
			return false;
		for (offset = 0; offset < areas[i].size; offset += sizeof(long))
			wrong += *(unsigned long *)(areas[i].mem + offset) !=
				 word_at(i, offset);
	}
	ksft_print_msg("%zu words are wrong\n", wrong);
	return !wrong;
}

static const char *no_huge_page(const struct test *test)
{
	return updated && !areas[HUGE].mem ? "no huge page in a memfd" : NULL;
}

/* arg: the area */
static bool test_tags(const struct test *test)
{
	enum memory which = *(const enum memory *)test->arg;
	size_t i, wrong = 0;

	if (!updated || !areas[which].mem)
		return false;
	for (i = 0; i < areas[which].size; i += GRANULE)
		wrong += get_tag(areas[which].mem + i) != tag_at(which, i);
	ksft_print_msg("%zu of %zu tags are wrong\n", wrong,
		       areas[which].size / GRANULE);
	return !wrong;
}

static bool test_no_tags(const struct test *test)
{
	size_t seen, granules = areas[UNTAGGED].size / GRANULE;

	if (!updated || !areas[UNTAGGED].mem)
		return false;
	seen = count_nonzero_tags(areas[UNTAGGED].mem, granules);
	ksft_print_msg("%zu of %zu tags are not zero\n", seen, granules);
	return !seen;
}

static const enum memory small = SMALL, huge = HUGE, late = LATE;

static const struct test tests[] = {
	{ "live_update_keeps_data", test_data },
	{ "live_update_keeps_tags", test_tags, .arg = &small },
	{ "live_update_keeps_tags_of_huge_page", test_tags, no_huge_page,
	  .arg = &huge },
	{ "live_update_keeps_tags_set_after_preservation", test_tags,
	  .arg = &late },
	{ "live_update_shows_no_stale_tags", test_no_tags },
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, NULL);
}
