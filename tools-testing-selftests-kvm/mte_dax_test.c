// SPDX-License-Identifier: GPL-2.0
/*
 * mte_dax_test - MTE guests and the pages of a file system with DAX
 *
 * A file on a DAX file system is mapped without the page cache: the VMM and the
 * guest would get pages of ZONE_DEVICE. They need not have tag storage, and are
 * refused as memory of an MTE guest:
 *
 *  - KVM_SET_USER_MEMORY_REGION with a shared mapping of such a file fails with
 *    EINVAL, and so does KVM_CAP_ARM_MTE if there is such a slot already
 *  - mapped behind a slot that was made with other memory, it stops the guest
 *    that touches it, KVM_RUN fails with EFAULT; or the guest has it as memory of
 *    a device, without tags (MTE_ABI_DAX_IS_DEVICE)
 *  - KVM_ARM_MTE_COPY_TAGS fails with EFAULT in both directions, or returns the
 *    number of bytes that it did before it got there
 *  - of a private mapping the guest gets the VMM's own copies of the pages, where
 *    MTE_ABI_PRIVATE_FILE allows that, and nothing else
 *
 * No page of the file is left with a reference. The file system waits for the
 * last one to be dropped, so that a truncate and a hole punch have to end, those
 * included that begin while KVM_ARM_MTE_COPY_TAGS has such a page in its hands.
 *
 * The test wants a file system that is mounted with DAX: the one that has the
 * directory MTE_TEST_DAX_DIR of the environment, else the first ext4 or xfs of
 * /proc/mounts that is.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <linux/falloc.h>
#include <linux/kvm.h>

#include "kselftest.h"
#include "mte.h"

#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX	0x00200000
#endif

#define READ		KVM_ARM_TAGS_FROM_GUEST
#define WRITE		KVM_ARM_TAGS_TO_GUEST

#define IPA		MTE_REGION_IPA
#define SIZE		(4 * MTE_PAGE)
/* Pages of other memory in front of those of the file */
#define IN_FRONT	(2 * MTE_PAGE)

#define OLD_TAGS	0x0daULL
#define NEW_TAGS	0x7a5ULL
#define DATA		0x5a

/* How long a thing that takes no time at all may take before it hangs */
#define PATIENCE_S	10
/* How long one that is to wait for another needs to get there */
#define HEAD_START_MS	300

/*
 * The file
 */

static const char *find_dax_dir(void)
{
	static char dir[200];
	const char *given = getenv("MTE_TEST_DAX_DIR");
	char line[1000], type[40], options[400], *option, *rest;
	FILE *f;

	if (given)
		return given;

	f = fopen("/proc/mounts", "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%*s %199s %39s %399s", dir, type, options) != 3 ||
		    (strcmp(type, "ext4") && strcmp(type, "xfs")))
			continue;
		rest = options;
		while ((option = strsep(&rest, ",")))
			if (!strcmp(option, "dax") || !strcmp(option, "dax=always")) {
				fclose(f);
				return dir;
			}
	}
	if (f)
		fclose(f);

	return NULL;
}

/* A new file of SIZE bytes, which lives as long as it is open or mapped */
static int open_dax_file(void)
{
	const char *dir = find_dax_dir();
	char path[250], data[SIZE];
	struct statx st = {};
	int fd;

	if (!dir)
		mte_skip("no ext4 or xfs is mounted with DAX; see MTE_TEST_DAX_DIR");
	snprintf(path, sizeof(path), "%s/mte_dax_test.%d", dir, getpid());
	fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		mte_skip("cannot create %s: %s", path, strerror(errno));
	unlink(path);
	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st))
		mte_die("statx: %s", strerror(errno));
	if ((st.stx_attributes_mask & STATX_ATTR_DAX) &&
	    !(st.stx_attributes & STATX_ATTR_DAX))
		mte_skip("no DAX for the files in %s", dir);

	memset(data, DATA, sizeof(data));
	if (pwrite(fd, data, sizeof(data), 0) != sizeof(data))
		mte_die("cannot write to the file: %s", strerror(errno));

	return fd;
}

/* Map @size bytes of the file, at @where if that is not NULL. */
static char *map_file(int fd, int flags, char *where, size_t size)
{
	char *mem = mmap(where, size, PROT_READ | PROT_WRITE,
			 flags | (where ? MAP_FIXED : 0), fd, 0);

	if (mem == MAP_FAILED)
		mte_die("cannot map the file: %s", strerror(errno));

	return mem;
}

static char *map_anon(char *where, size_t size)
{
	return map_file(-1, MAP_PRIVATE | MAP_ANONYMOUS, where, size);
}

static void expect_data(int fd, const char *when)
{
	char data[SIZE];
	size_t i, bad = 0;

	if (pread(fd, data, SIZE, 0) != SIZE)
		mte_die("%s: cannot read the file: %s", when, strerror(errno));
	for (i = 0; i < SIZE; i++)
		bad += data[i] != DATA;
	mte_expect(!bad, "%s: %zu of %lu bytes of the file have changed", when,
		   bad, SIZE);
}

/*
 * What the file system has to do once it has all pages for itself. It sleeps
 * for ever if there is a reference left, and may not even listen to signals: it
 * is another process that does it.
 */
static int punch(int fd)
{
	return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			 SIZE / 2);
}

static int truncate_all(int fd)
{
	return ftruncate(fd, 0);
}

static pid_t start_change(int (*change)(int fd), int fd)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (!pid)
		_exit(change(fd) ? errno : 0);
	if (pid < 0)
		mte_die("no process: %s", strerror(errno));

	return pid;
}

/* Its wait status, or -1 if it takes longer. */
static int await_change(pid_t pid, unsigned int ms)
{
	int status;

	for (;; ms--) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		if (!ms)
			return -1;
		usleep(1000);
	}
}

static bool expect_change(pid_t pid, const char *what)
{
	int status = await_change(pid, PATIENCE_S * 1000);

	if (!mte_expect(status != -1,
			"%s sleeps: a page of the file is still in use", what)) {
		kill(pid, SIGKILL);
		return false;
	}

	return mte_expect(!status, "%s: %s", what, WIFEXITED(status) ?
			  strerror(WEXITSTATUS(status)) : "killed");
}

static void expect_pages_are_idle(int fd)
{
	if (expect_change(start_change(punch, fd), "punching a hole"))
		expect_change(start_change(truncate_all, fd), "the truncate");
}

/*
 * Slots
 */

static void slot_refused(const struct mte_case *c)
{
	struct kvm_vm *vm = vm_create_barebones();
	int fd = open_dax_file();
	char *mem = map_file(fd, MAP_SHARED, NULL, SIZE);

	if (mte_enable(vm))
		mte_die("cannot enable KVM_CAP_ARM_MTE: %s", strerror(errno));
	mte_expect_return(mte_set_slot(vm, 0, 0, IPA, mem, SIZE), -EINVAL, "the slot");
	expect_pages_are_idle(fd);
}

static void capability_refused(const struct mte_case *c)
{
	struct kvm_vm *vm = vm_create_barebones();
	int fd = open_dax_file();
	char *mem = map_file(fd, MAP_SHARED, NULL, SIZE);

	if (mte_set_slot(vm, 0, 0, IPA, mem, SIZE))
		mte_die("no slot even without MTE: %s", strerror(errno));
	mte_expect_return(mte_enable(vm), -EINVAL, "the capability");
	mte_set_slot(vm, 0, 0, IPA, mem, 0);
	mte_expect_return(mte_enable(vm), 0, "the capability without that slot");
	expect_pages_are_idle(fd);
}

/* A VM without MTE can have it. */
static void slot_without_mte(const struct mte_case *c)
{
	int fd = open_dax_file();
	char *mem = map_file(fd, MAP_SHARED, NULL, SIZE);
	struct mte_vm *m = mte_vm_create(false);

	if (!mte_expect_return(mte_vm_add_mapping(m, mem, SIZE), 0, "the slot"))
		return;
	mte_guest_load(m, IPA, SIZE);
	mte_guest_store(m, IPA, SIZE);
	mte_expect(READ_ONCE(*(u64 *)(mem + MTE_PAGE)) == IPA + MTE_PAGE,
		   "the guest's data is not in the file");
	expect_pages_are_idle(fd);
}

/*
 * Memory that changes behind a slot: first @front bytes of anonymous memory
 * with OLD_TAGS, then the file.
 */
static struct mte_vm *create_guest(int fd, int flags, size_t front)
{
	struct mte_vm *m = mte_vm_create(true);

	if (mte_vm_add_mapping(m, map_anon(NULL, SIZE), SIZE))
		mte_die("cannot add anonymous memory: %s", strerror(errno));
	mte_guest_set_pattern(m, IPA, SIZE, OLD_TAGS);
	map_file(fd, flags, m->hva + front, SIZE - front);

	return m;
}

/* Have the VMM itself map the pages. */
static void vmm_loads(struct mte_vm *m)
{
	size_t i;

	for (i = 0; i < SIZE; i += MTE_PAGE)
		READ_ONCE(m->hva[i]);
}

/* Returns the tag that the guest sees. */
static u64 touch(u64 addr, u64 store, u64 c, u64 d)
{
	READ_ONCE(*(u64 *)addr);
	if (store)
		mte_guest_store_tag(addr, OLD_TAGS & 0xf);

	return mte_guest_load_tag(addr);
}

/* Have the guest touch a page of the file, which it must not get with tags. */
static void expect_no_tags(struct mte_vm *m, u64 store)
{
	struct mte_stop stop = mte_guest_try(m, touch, IPA, store, NULL);

	if (mte_expect_stop(stop, MTE_ABI_DAX_IS_DEVICE ? 0 : EFAULT, "in the file") &&
	    stop.why == MTE_RETURNED)
		mte_expect(!stop.value, "the guest sees a tag of %#lx",
			   (unsigned long)stop.value);
}

/* An access that failed is made again, when there is other memory. */
static bool touch_again(struct mte_vm *m, int error, const char *when)
{
	return mte_expect_stop(MTE_ABI_DAX_IS_DEVICE ? mte_guest_try(m, touch, IPA, true, NULL) :
			       mte_guest_run(m), error, when);
}

/* arg: whether the guest sets tags, and whether the VMM has the page mapped */
#define STORE		1
#define MAPPED		2

static void guest_touches(const struct mte_case *c)
{
	int fd = open_dax_file();
	struct mte_vm *m = create_guest(fd, MAP_SHARED, 0);

	if (c->arg & MAPPED)
		vmm_loads(m);
	expect_no_tags(m, c->arg & STORE);
	expect_data(fd, "afterwards");
	expect_pages_are_idle(fd);

	map_anon(m->hva, SIZE);
	if (!touch_again(m, 0, "in better memory"))
		return;
	mte_guest_set_pattern(m, IPA, SIZE, NEW_TAGS);
	mte_expect_guest_sees(m, IPA, SIZE, NEW_TAGS, "in better memory");
}

/* A copy of a page may be as good as any other private memory. */
static void guest_tags_copy(const struct mte_case *c)
{
	int fd = open_dax_file();
	struct mte_vm *m = create_guest(fd, MAP_PRIVATE, 0);

	expect_no_tags(m, false);
	/* A store of the VMM makes the copy. */
	memset(m->hva, 1, MTE_PAGE);
	if (touch_again(m, MTE_ABI_PRIVATE_FILE ? 0 : EFAULT, "in the copy") &&
	    MTE_ABI_PRIVATE_FILE) {
		mte_guest_set_pattern(m, IPA, MTE_PAGE, NEW_TAGS);
		mte_expect_tags(m, IPA, MTE_PAGE, NEW_TAGS, "in the copy");
	}
	expect_data(fd, "afterwards");
	expect_pages_are_idle(fd);
}

/*
 * KVM_ARM_MTE_COPY_TAGS
 */

static long copy(struct mte_vm *m, u64 direction, u64 ipa, u8 *tags, size_t size)
{
	return direction == READ ? mte_read_tags(m, ipa, tags, size) :
				   mte_write_tags(m, ipa, tags, size);
}

static void copy_tags(const struct mte_case *c)
{
	int fd = open_dax_file();
	struct mte_vm *m = create_guest(fd, MAP_SHARED, 0);
	u8 tags[SIZE / MTE_GRANULE];

	mte_fill_pattern(tags, sizeof(tags), NEW_TAGS);
	mte_expect_return(copy(m, c->arg, IPA, tags, SIZE), -EFAULT, "not mapped");
	vmm_loads(m);
	mte_expect_return(copy(m, c->arg, IPA + MTE_PAGE, tags, MTE_PAGE), -EFAULT, "mapped");
	memset(m->hva, DATA, SIZE);
	mte_expect_return(copy(m, c->arg, IPA, tags, MTE_PAGE), -EFAULT, "in use");
	expect_data(fd, "afterwards");
	expect_pages_are_idle(fd);
}

static void copy_tags_up_to(const struct mte_case *c)
{
	int fd = open_dax_file();
	struct mte_vm *m = create_guest(fd, MAP_SHARED, IN_FRONT);
	u8 tags[SIZE / MTE_GRANULE];

	vmm_loads(m);
	mte_fill_pattern(tags, sizeof(tags), NEW_TAGS);
	mte_expect_return(copy(m, c->arg, IPA, tags, SIZE), IN_FRONT, "the copy");
	mte_expect_guest_sees(m, IPA, IN_FRONT,
			      c->arg == WRITE ? NEW_TAGS : OLD_TAGS,
			      "pages in front of the file's");
	expect_pages_are_idle(fd);
}

/* Reads do not copy a page, writes do, if they may. */
static void copy_tags_of_private_mapping(const struct mte_case *c)
{
	int fd = open_dax_file();
	struct mte_vm *m = create_guest(fd, MAP_PRIVATE, 0);
	u8 tags[MTE_MAX_TAGS];

	mte_expect_return(mte_read_tags(m, IPA, tags, MTE_PAGE), -EFAULT, "a read");
	mte_fill_pattern(tags, sizeof(tags), NEW_TAGS);
	mte_expect_return(mte_write_tags(m, IPA, tags, MTE_PAGE),
			  MTE_ABI_PRIVATE_FILE ? (long)MTE_PAGE : -EFAULT, "a write");
	if (MTE_ABI_PRIVATE_FILE)
		mte_expect_ioctl_reads(m, IPA, MTE_PAGE, NEW_TAGS, "of the copy");
	expect_data(fd, "afterwards");
	expect_pages_are_idle(fd);
}

/*
 * COPY_TAGS waits for a page of its tag buffer, which is behind a userfaultfd,
 * with pages of the file next in turn. The file system does not get them before
 * the ioctl has dropped what it may have taken already, and has to get them then.
 */
static void copy_in_helper(struct mte_helper *h)
{
	h->ret = copy(h->m, h->arg, IPA, (u8 *)h->addr, SIZE);
}

static void change_beside_copy(const struct mte_case *c, int (*change)(int fd))
{
	struct mte_helper h = {
		.work = copy_in_helper, .arg = c->arg,
		.addr = map_anon(NULL, MTE_PAGE),
	};
	u8 *content = calloc(1, MTE_PAGE);
	int fd = open_dax_file(), uffd;
	pid_t pid;

	h.m = create_guest(fd, MAP_SHARED, IN_FRONT);
	vmm_loads(h.m);
	uffd = mte_open_userfaultfd(h.addr, MTE_PAGE);
	mte_helper_start(&h);
	mte_helper_go(&h);
	if (!mte_await_userfault(uffd, PATIENCE_S * 1000))
		mte_die("COPY_TAGS does not touch its buffer");

	pid = start_change(change, fd);
	if (await_change(pid, HEAD_START_MS) == -1)
		ksft_print_msg("the file system waits for COPY_TAGS\n");
	else
		pid = 0;
	mte_serve_page(uffd, h.addr, content);
	mte_helper_wait(&h);
	/*
	 * Behind the end of a file that was truncated is nothing at all. Holes
	 * are read from the zero page, which has tags of zero.
	 */
	if (h.ret != SIZE || change != punch || c->arg != READ)
		mte_expect_return(h.ret, IN_FRONT, "the copy");
	if (pid && !expect_change(pid, "what waited for COPY_TAGS"))
		return;
	expect_pages_are_idle(fd);
}

static void punch_beside_copy(const struct mte_case *c)
{
	change_beside_copy(c, punch);
}

static void truncate_beside_copy(const struct mte_case *c)
{
	change_beside_copy(c, truncate_all);
}

static const struct mte_case cases[] = {
	{ "vm_without_mte_can_have_dax_file", slot_without_mte, MTE_ON_OWN },
	{ "slot_of_shared_dax_file_is_refused", slot_refused, MTE_ON_OWN },
	{ "capability_with_slot_of_shared_dax_file_is_refused", capability_refused, MTE_ON_OWN },

	{ "guest_load_from_dax_file_behind_slot_shows_no_tags", guest_touches, MTE_ON_OWN },
	{ "guest_load_from_mapped_dax_file_behind_slot_shows_no_tags",
	  guest_touches, MTE_ON_OWN, MAPPED },
	{ "guest_tag_store_to_dax_file_behind_slot_sets_no_tags",
	  guest_touches, MTE_ON_OWN, STORE },
	{ "guest_tag_store_to_mapped_dax_file_behind_slot_sets_no_tags",
	  guest_touches, MTE_ON_OWN, STORE | MAPPED },
	{ "guest_has_no_tagged_page_of_private_dax_file", guest_tags_copy, MTE_ON_OWN },

	{ "copy_tags_of_private_dax_file_leaves_file_alone",
	  copy_tags_of_private_mapping, MTE_ON_OWN },
	{ "copy_tags_to_dax_file_is_efault", copy_tags, MTE_ON_OWN, WRITE },
	{ "copy_tags_from_dax_file_is_efault", copy_tags, MTE_ON_OWN, READ },
	{ "copy_tags_to_memory_before_dax_file_returns_bytes_done",
	  copy_tags_up_to, MTE_ON_OWN, WRITE },
	{ "copy_tags_from_memory_before_dax_file_returns_bytes_done",
	  copy_tags_up_to, MTE_ON_OWN, READ },

	{ "hole_punch_beside_copy_tags_to_guest_ends", punch_beside_copy, MTE_ON_OWN, WRITE },
	{ "hole_punch_beside_copy_tags_from_guest_ends", punch_beside_copy, MTE_ON_OWN, READ },
	{ "truncate_beside_copy_tags_to_guest_ends", truncate_beside_copy, MTE_ON_OWN, WRITE },
	{ "truncate_beside_copy_tags_from_guest_ends", truncate_beside_copy, MTE_ON_OWN, READ },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_SIZE(cases));
}
