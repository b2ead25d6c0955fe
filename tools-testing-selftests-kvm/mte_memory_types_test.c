// SPDX-License-Identifier: GPL-2.0
/*
 * mte_memory_types_test - which memory an MTE guest may have
 *
 * Memory that can carry tags, as far as the kernel lets a VMM have it with
 * PROT_MTE, is accepted: anonymous memory, memfds shared and private. The pages
 * of a file in a shared mapping are refused, as are those of guest_memfd: nobody
 * looks after their tags. Memory of a device is accepted, as it is mapped in a
 * way that knows no tags; but RAM that the VMM has mapped as if it were that
 * shows none of its own, and is refused early or can be used.
 *
 * Trees differ in hugetlb memory (MTE_ABI_HUGETLB), private and shared, and in private
 * mappings of a file (MTE_ABI_PRIVATE_FILE): accepted or refused. Where a private
 * mapping of a file is accepted,
 *  - tags go to the copies that the guest's stores make; the file's own pages,
 *    which other mappings of it show, keep tags of zero
 *  - a copy that the VMM makes is as good as one of the guest's
 *  - if the file is truncated, tags are lost together with the data
 *
 *  - KVM_SET_USER_MEMORY_REGION says so, for the first page of a slot as for
 *    the last one, and for read-only slots
 *  - KVM_CAP_ARM_MTE says the same about the slots that are there already.
 *    After that the VM is one without MTE, and the capability can be had when
 *    the slot is gone
 *  - memory that the VMM maps behind a slot afterwards is refused when the
 *    guest touches it: KVM_RUN fails with EFAULT, and goes on once there is
 *    better memory
 *  - but the slot can be logged all the same
 *  - KVM_ARM_MTE_COPY_TAGS writes no tags to such memory: EFAULT, or the number
 *    of bytes done before. Reads see zeros
 *  - hugetlb memory, if a VM can have it by way of a slot made before the
 *    capability, does not take the VM's tags along to its next owner
 *
 * The capability itself: refused once there is a vCPU, or with flags; enabling
 * it again is no error.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "kselftest.h"
#include "mte.h"

#define IPA		MTE_REGION_IPA
#define SIZE		(4 * MTE_PAGE)

#define OLD_TAGS	0x01dULL
#define NEW_TAGS	0x4e3ULL

enum kind {
	ANON,
	SHARED_MEMFD,
	PRIVATE_MEMFD,
	PRIVATE_HUGETLB,
	SHARED_HUGETLB,
	SHARED_FILE,
	PRIVATE_FILE,
	/* The last page of the slot */
	SHARED_FILE_BEHIND_ANON,
	PRIVATE_FILE_BEHIND_ANON,
	/* By /dev/mem, which makes it VM_PFNMAP, as VFIO does */
	DEVICE,
	/* Mapped as any other memory is */
	GUEST_MEMFD,
	/* Private, and of the kernel's image */
	VDSO,
};

/* Beside a kind in a case's arg: a read-only slot */
#define READ_ONLY	0x100

static enum kind kind_of(const struct mte_case *c)
{
	return c->arg & ~READ_ONLY;
}

static unsigned int slot_flags_of(const struct mte_case *c)
{
	return c->arg & READ_ONLY ? KVM_MEM_READONLY : 0;
}

#define HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages"
#define HUGETLB_SHIFT	__builtin_ctzl(mte_unit(MTE_HUGETLB))

static size_t size_of(enum kind kind)
{
	if (kind == DEVICE || kind == VDSO)
		return MTE_PAGE;

	return kind == PRIVATE_HUGETLB || kind == SHARED_HUGETLB ?
	       mte_unit(MTE_HUGETLB) : SIZE;
}

static int open_memfd(enum kind kind)
{
	int flags = kind == SHARED_HUGETLB ?
		    MFD_HUGETLB | HUGETLB_SHIFT << MAP_HUGE_SHIFT : 0;
	int fd = syscall(__NR_memfd_create, "mte_test", flags);

	if (fd < 0)
		mte_skip("no memfd: %s", strerror(errno));
	if (ftruncate(fd, size_of(kind)))
		mte_die("ftruncate: %s", strerror(errno));

	return fd;
}

static int create_guest_memfd(int vm)
{
	struct kvm_create_guest_memfd args = {
		.size = SIZE,
		.flags = GUEST_MEMFD_FLAG_MMAP |
			 GUEST_MEMFD_FLAG_INIT_SHARED,
	};
	int fd = ioctl(vm, KVM_CREATE_GUEST_MEMFD, &args);

	if (fd < 0)
		mte_skip("no guest_memfd that can be mapped: %s", strerror(errno));

	return fd;
}

/* Map a page of physical memory, at @where if that is not NULL. */
static char *map_physical_at(u64 pa, int flags, char *where)
{
	int fd = open("/dev/mem", O_RDWR | flags);
	char *mem;

	if (fd < 0)
		mte_skip("no /dev/mem: %s", strerror(errno));
	mem = mmap(where, MTE_PAGE, PROT_READ | PROT_WRITE,
		   MAP_SHARED | (where ? MAP_FIXED : 0), fd, pa);
	if (mem == MAP_FAILED)
		mte_skip("cannot map physical memory: %s", strerror(errno));
	close(fd);

	return mem;
}

static char *map_physical(u64 pa)
{
	return map_physical_at(pa, O_SYNC, NULL);
}

/* A real-time clock: reading its registers has no side effects. */
static char *map_device(void)
{
	FILE *iomem = fopen("/proc/iomem", "r");
	unsigned long pa = 0;
	char line[200];

	while (iomem && fgets(line, sizeof(line), iomem) && !pa)
		if (strstr(line, "pl031"))
			pa = strtoul(line, NULL, 16);
	if (!pa)
		mte_skip("no PL031 on this machine");
	fclose(iomem);

	return map_physical(pa);
}

/* One more than there is, if all are in use: the pool may be the machine's */
static void need_free_huge_page(void)
{
	unsigned long kib = mte_unit(MTE_HUGETLB) / 1024;
	char free[80], nr[80];

	snprintf(free, sizeof(free), HUGEPAGES "-%lukB/free_hugepages", kib);
	snprintf(nr, sizeof(nr), HUGEPAGES "-%lukB/nr_hugepages", kib);
	if (!mte_tunable(free))
		mte_set_tunable(nr, mte_tunable(nr) + 1);
}

/* Map that kind of memory, at @where if that is not NULL. */
static char *map_kind(enum kind kind, char *where)
{
	int fixed = where ? MAP_FIXED : 0, flags, fd = -1;
	char *mem;

	switch (kind) {
	case DEVICE:
		return map_device();
	case VDSO:
		mem = (char *)getauxval(AT_SYSINFO_EHDR);
		if (!mem)
			mte_skip("kernel without vDSO");
		return mem;
	case SHARED_MEMFD:
	case PRIVATE_MEMFD:
		fd = open_memfd(kind);
		flags = kind == SHARED_MEMFD ? MAP_SHARED : MAP_PRIVATE;
		break;
	case GUEST_MEMFD:
		/* Any VM will do. */
		fd = create_guest_memfd(mte_create_bare_vm());
		flags = MAP_SHARED;
		break;
	case SHARED_FILE:
	case PRIVATE_FILE:
		fd = mte_open_file(SIZE);
		flags = kind == SHARED_FILE ? MAP_SHARED : MAP_PRIVATE;
		break;
	case PRIVATE_HUGETLB:
		need_free_huge_page();
		flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
			HUGETLB_SHIFT << MAP_HUGE_SHIFT;
		break;
	case SHARED_HUGETLB:
		need_free_huge_page();
		fd = open_memfd(kind);
		flags = MAP_SHARED;
		break;
	default:
		flags = MAP_PRIVATE | MAP_ANONYMOUS;
	}

	mem = mmap(where, size_of(kind), PROT_READ | PROT_WRITE, flags | fixed,
		   fd, 0);
	if (mem == MAP_FAILED && (kind == PRIVATE_HUGETLB || kind == SHARED_HUGETLB))
		mte_skip("no hugetlb memory: %s", strerror(errno));
	if (mem == MAP_FAILED)
		mte_die("cannot map: %s", strerror(errno));
	if (fd >= 0)
		close(fd);

	if (kind == SHARED_FILE_BEHIND_ANON)
		fd = mte_open_file(SIZE), flags = MAP_SHARED;
	else if (kind == PRIVATE_FILE_BEHIND_ANON)
		fd = mte_open_file(SIZE), flags = MAP_PRIVATE;
	else
		return mem;
	if (mmap(mem + SIZE - MTE_PAGE, MTE_PAGE, PROT_READ | PROT_WRITE,
		 flags | MAP_FIXED, fd, 0) == MAP_FAILED)
		mte_die("cannot map: %s", strerror(errno));
	close(fd);

	return mem;
}

/* The ioctl is refused with EINVAL in a VM without MTE, whatever it asks for. */
static bool has_mte(int vm)
{
	struct kvm_arm_copy_mte_tags args = { .length = 0 };

	return !ioctl(vm, KVM_ARM_MTE_COPY_TAGS, &args);
}

static void slot_accepted(const struct mte_case *c)
{
	char *mem = map_kind(c->arg, NULL);
	int vm = mte_create_bare_vm(), err;

	if (mte_enable(vm))
		mte_die("cannot enable KVM_CAP_ARM_MTE");
	err = mte_set_slot(vm, 0, 0, IPA, mem, size_of(c->arg));
	mte_expect(!err, "the slot: %s", mte_verdict(err));
}

static void slot_refused(const struct mte_case *c)
{
	size_t size = size_of(kind_of(c));
	int vm = mte_create_bare_vm(), err;
	char *mem;

	mem = map_kind(kind_of(c), NULL);
	/* It is all right without MTE. */
	err = mte_set_slot(vm, 0, slot_flags_of(c), IPA, mem, size);
	if (err)
		mte_die("no slot even without MTE: %s", strerror(err));
	mte_set_slot(vm, 0, 0, IPA, mem, 0);

	if (mte_enable(vm))
		mte_die("cannot enable KVM_CAP_ARM_MTE");
	err = mte_set_slot(vm, 0, slot_flags_of(c), IPA, mem, size);
	mte_expect(err == EINVAL, "the slot: %s", mte_verdict(err));
	/* The VM can have other memory there. */
	err = mte_set_slot(vm, 0, 0, IPA, map_kind(ANON, NULL), SIZE);
	mte_expect(!err, "another slot afterwards: %s", mte_verdict(err));
}

static void capability_accepted(const struct mte_case *c)
{
	char *mem = map_kind(c->arg, NULL);
	int vm = mte_create_bare_vm(), err;

	if (mte_set_slot(vm, 0, 0, IPA, mem, size_of(c->arg)))
		mte_die("no slot even without MTE");
	err = mte_enable(vm);
	mte_expect(!err, "the capability: %s", mte_verdict(err));
	mte_expect(has_mte(vm), "the VM has no MTE");
}

/* Slots 2 and 6 are all right: have neither the first nor the last one refused. */
static int create_vm_with_slots_around(void)
{
	int vm = mte_create_bare_vm();

	if (mte_set_slot(vm, 2, 0, IPA, map_kind(ANON, NULL), SIZE) ||
	    mte_set_slot(vm, 6, 0, 3 * IPA, map_kind(ANON, NULL), SIZE))
		mte_die("no slots even without MTE");

	return vm;
}

static void expect_capability_refused(int vm, void *mem)
{
	int err = mte_enable(vm);

	mte_expect(err == EINVAL, "the capability: %s", mte_verdict(err));
	mte_expect(!has_mte(vm), "the VM has MTE all the same");

	if (mte_set_slot(vm, 4, 0, 2 * IPA, mem, 0))
		mte_die("cannot delete the slot");
	err = mte_enable(vm);
	mte_expect(!err, "the capability without that slot: %s",
		   mte_verdict(err));
	mte_expect(has_mte(vm), "the VM has no MTE without that slot");
}

static void capability_refused(const struct mte_case *c)
{
	int vm = create_vm_with_slots_around();
	char *mem;

	mem = map_kind(kind_of(c), NULL);
	if (mte_set_slot(vm, 4, slot_flags_of(c), 2 * IPA, mem, size_of(kind_of(c))))
		mte_die("no slot even without MTE");
	expect_capability_refused(vm, mem);
}

/*
 * A slot that has guest_memfd beside memory of the VMM. Returns 0 or an errno.
 */
static int set_slot_with_guest_memfd(int vm, unsigned int slot, u64 ipa,
				     char **mem)
{
	int fd = create_guest_memfd(vm);
	struct kvm_userspace_memory_region2 region = {
		.slot = slot,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = ipa,
		.memory_size = SIZE,
		.guest_memfd = fd,
	};
	int err;

	*mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*mem == MAP_FAILED)
		mte_die("cannot map guest_memfd: %s", strerror(errno));
	region.userspace_addr = (uintptr_t)*mem;
	err = ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region) ? errno : 0;
	close(fd);

	return err;
}

static void guest_memfd_slot_refused(const struct mte_case *c)
{
	int vm = mte_create_bare_vm(), err;
	char *mem;

	err = set_slot_with_guest_memfd(vm, 0, IPA, &mem);
	if (err)
		mte_die("no slot even without MTE: %s", strerror(err));
	close(vm);

	vm = mte_create_bare_vm();
	if (mte_enable(vm))
		mte_die("cannot enable KVM_CAP_ARM_MTE");
	err = set_slot_with_guest_memfd(vm, 0, IPA, &mem);
	mte_expect(err == EINVAL, "the slot: %s", mte_verdict(err));
}

static void guest_memfd_capability_refused(const struct mte_case *c)
{
	int vm = create_vm_with_slots_around(), err;
	char *mem;

	err = set_slot_with_guest_memfd(vm, 4, 2 * IPA, &mem);
	if (err)
		mte_die("no slot even without MTE: %s", strerror(err));
	expect_capability_refused(vm, mem);
}

static void capability_after_vcpu(const struct mte_case *c)
{
	int vm = mte_create_bare_vm(), err;

	if (ioctl(vm, KVM_CREATE_VCPU, 0UL) < 0)
		mte_die("no vCPU: %s", strerror(errno));
	err = mte_enable(vm);
	mte_expect(err == EINVAL, "the capability: %s", mte_verdict(err));
	mte_expect(!has_mte(vm), "the VM has MTE all the same");
}

static void capability_with_flags(const struct mte_case *c)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_ARM_MTE, .flags = 1 };
	int vm = mte_create_bare_vm();

	mte_expect(ioctl(vm, KVM_ENABLE_CAP, &cap) == -1 && errno == EINVAL,
		   "flags are accepted");
	mte_expect(!has_mte(vm), "the VM has MTE all the same");
}

static void capability_twice(const struct mte_case *c)
{
	int vm = mte_create_bare_vm(), err;

	mte_enable(vm);
	err = mte_enable(vm);
	mte_expect(!err, "the second time: %s", mte_verdict(err));
	mte_expect(has_mte(vm), "the VM has no MTE");
}

/*
 * Memory that changes behind a slot
 */

/* A guest with OLD_TAGS in all of its memory, which is anonymous */
static struct mte_vm *create_guest(void)
{
	struct mte_vm *m = mte_vm_create(true);
	long ret = mte_vm_add_mapping(m, map_kind(ANON, NULL), SIZE);

	if (ret)
		mte_die("cannot add anonymous memory: %s", strerror(-ret));
	mte_guest_set_pattern(m, IPA, SIZE, OLD_TAGS);

	return m;
}

static u64 touch(u64 addr, u64 store, u64 c, u64 d)
{
	if (store)
		WRITE_ONCE(*(u64 *)addr, addr);

	return READ_ONCE(*(u64 *)addr);
}

static void guest_touches(const struct mte_case *c, u64 store)
{
	struct mte_stop stop;
	struct mte_vm *m;
	char *mem;

	m = create_guest();
	mem = mte_vm_hva(m);
	map_kind(c->arg, mem);
	stop = mte_guest_try(m, touch, IPA, store, NULL);
	if (!mte_expect(stop.why == MTE_RUN_FAILED && stop.value == EFAULT,
			"the guest stopped for reason %d, value %#lx", stop.why,
			(unsigned long)stop.value))
		return;

	/* The access is made again. */
	map_kind(ANON, mem);
	stop = mte_guest_run(m);
	mte_expect(stop.why == MTE_RETURNED, "with better memory: reason %d, value %#lx",
		   stop.why, (unsigned long)stop.value);
	mte_expect_guest_sees(m, IPA, SIZE, MTE_ALL_ZERO, "in better memory");
}

static void guest_loads(const struct mte_case *c)
{
	guest_touches(c, false);
}

/*
 * The VMM writes to its private mapping of the file, in the last page, so that
 * a copy takes the place of a page that was mapped. Older kernels tell KVM of
 * the copy, which may map it before the guest asks for it; the guest's access
 * to the other pages makes sure that there is a page table to do so.
 */
static void guest_loads_copy(const struct mte_case *c)
{
	u64 last = SIZE - MTE_PAGE;
	struct mte_stop stop;
	struct mte_vm *m;
	char *mem;

	m = create_guest();
	mem = mte_vm_hva(m);
	map_kind(c->arg, mem);
	mte_guest_set_pattern(m, IPA, last, OLD_TAGS);
	(void)READ_ONCE(mem[last]);
	WRITE_ONCE(mem[last], 1);
	stop = mte_guest_try(m, touch, IPA + last, false, NULL);
	mte_expect(stop.why == MTE_RUN_FAILED && stop.value == EFAULT,
		   "the guest stopped for reason %d, value %#lx", stop.why,
		   (unsigned long)stop.value);
}

static void guest_stores(const struct mte_case *c)
{
	guest_touches(c, true);
}

/*
 * Private mappings of a file, where the kernel accepts them
 */

static int open_file_with_data(void)
{
	int fd = mte_open_file(SIZE);
	u64 page;

	for (page = 0; page < SIZE / MTE_PAGE; page++)
		if (pwrite(fd, &page, sizeof(page), page * MTE_PAGE) !=
		    sizeof(page))
			mte_die("cannot write to the file: %s", strerror(errno));

	return fd;
}

static struct mte_vm *create_guest_on_file(int fd)
{
	struct mte_vm *m = mte_vm_create(true);
	char *mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	long ret;

	if (mem == MAP_FAILED)
		mte_die("cannot map the file: %s", strerror(errno));
	ret = mte_vm_add_mapping(m, mem, SIZE);
	if (ret)
		mte_die("cannot add the file: %s", strerror(-ret));

	return m;
}

static u64 data_at(struct mte_vm *m, u64 page)
{
	return READ_ONCE(*(u64 *)(mte_vm_hva(m) + page * MTE_PAGE));
}

static void file_keeps_no_tags(const struct mte_case *c)
{
	struct mte_vm *by_guest, *by_ioctl, *other;
	u64 page, data;
	int fd;

	mte_dirty_free_memory();
	fd = open_file_with_data();
	by_guest = create_guest_on_file(fd);
	by_ioctl = create_guest_on_file(fd);
	other = create_guest_on_file(fd);

	/* All have the file's pages at first, but for one that has none yet. */
	mte_guest_load(other, IPA, SIZE);
	mte_guest_load(by_guest, IPA, SIZE);
	mte_expect_tags(other, IPA, SIZE, MTE_ALL_ZERO, "before");
	mte_guest_set_pattern(by_guest, IPA, SIZE, OLD_TAGS);
	mte_expect_tags(by_guest, IPA, SIZE, OLD_TAGS, "set by the guest");
	mte_expect_tags(other, IPA, SIZE, MTE_ALL_ZERO, "another guest of the file");
	mte_write_pattern(by_ioctl, IPA, SIZE, NEW_TAGS);
	mte_expect_tags(by_ioctl, IPA, SIZE, NEW_TAGS, "written by the ioctl");
	mte_expect_tags(by_guest, IPA, SIZE, OLD_TAGS, "written to another copy");
	mte_expect_tags(other, IPA, SIZE, MTE_ALL_ZERO, "another guest of the file");

	for (page = 0; page < SIZE / MTE_PAGE; page++) {
		data = ~0UL;
		if (pread(fd, &data, sizeof(data), page * MTE_PAGE) !=
		    sizeof(data))
			mte_die("cannot read the file: %s", strerror(errno));
		mte_expect(data == page && data_at(by_guest, page) == page &&
			   data_at(by_ioctl, page) == page,
			   "page %lu has other data", (unsigned long)page);
	}
	/* One that comes when the copies are gone */
	mte_vm_destroy(by_guest);
	mte_vm_destroy(by_ioctl);
	other = create_guest_on_file(fd);
	mte_expect_tags(other, IPA, SIZE, MTE_ALL_ZERO, "the next guest of the file");
}

static void file_page_copied_by_vmm(const struct mte_case *c)
{
	u64 last = SIZE - MTE_PAGE;
	struct mte_vm *m, *other;
	int fd;

	mte_dirty_free_memory();
	fd = open_file_with_data();
	m = create_guest_on_file(fd);
	other = create_guest_on_file(fd);
	mte_guest_load(m, IPA, SIZE);
	mte_guest_load(other, IPA, SIZE);

	WRITE_ONCE(*(u64 *)(mte_vm_hva(m) + last), NEW_TAGS);
	mte_expect_tags(m, IPA, SIZE, MTE_ALL_ZERO, "the VMM's copy");
	mte_guest_set_pattern(m, IPA, SIZE, OLD_TAGS);
	mte_expect_tags(m, IPA, SIZE, OLD_TAGS, "set in the VMM's copy");
	mte_expect(data_at(m, last / MTE_PAGE) == NEW_TAGS,
		   "the VMM's data are lost");
	mte_expect_tags(other, IPA, SIZE, MTE_ALL_ZERO, "another guest of the file");
	mte_expect(data_at(other, last / MTE_PAGE) == last / MTE_PAGE,
		   "another guest of the file has the VMM's data");
}

static void truncated_file(const struct mte_case *c)
{
	u8 tags[SIZE / MTE_GRANULE];
	u64 half = SIZE / 2;
	struct mte_stop stop;
	struct mte_vm *m;
	long ret;
	int fd;

	mte_dirty_free_memory();
	fd = open_file_with_data();
	m = create_guest_on_file(fd);
	mte_guest_set_pattern(m, IPA, SIZE, OLD_TAGS);
	if (ftruncate(fd, half))
		mte_die("ftruncate: %s", strerror(errno));

	ret = mte_read_tags(m, IPA, tags, SIZE);
	mte_expect(ret == (long)half, "a read returned %ld", ret);
	mte_fill_pattern(tags, sizeof(tags), NEW_TAGS);
	ret = mte_write_tags(m, IPA, tags, SIZE);
	mte_expect(ret == (long)half, "a write returned %ld", ret);
	stop = mte_guest_try(m, touch, IPA + half, true, NULL);
	mte_expect(stop.why == MTE_RUN_FAILED && stop.value == EFAULT,
		   "the guest stopped for reason %d, value %#lx", stop.why,
		   (unsigned long)stop.value);

	/* The access is made again. */
	if (ftruncate(fd, SIZE))
		mte_die("ftruncate: %s", strerror(errno));
	stop = mte_guest_run(m);
	mte_expect(stop.why == MTE_RETURNED,
		   "with a longer file: reason %d, value %#lx", stop.why,
		   (unsigned long)stop.value);
	mte_expect_tags(m, IPA, half, NEW_TAGS, "what was left");
	mte_expect_tags(m, IPA + half, SIZE - half, MTE_ALL_ZERO, "what is new");
	mte_guest_set_pattern(m, IPA, SIZE, OLD_TAGS);
	mte_expect_tags(m, IPA, SIZE, OLD_TAGS, "set again");
}

/*
 * Memory of a device
 */

/* An identification register, in the first byte of each of four words */
#define PL031_PERIPH_ID		0xfe0

static u64 load_word(u64 addr, u64 b, u64 c, u64 d)
{
	return READ_ONCE(*(u32 *)addr);
}

static void guest_loads_from_device(const struct mte_case *c)
{
	char *mem = map_kind(DEVICE, NULL);
	u32 id = READ_ONCE(*(u32 *)(mem + PL031_PERIPH_ID));
	struct mte_vm *m = mte_vm_create(true);
	long ret = mte_vm_add_mapping(m, mem, MTE_PAGE);
	struct mte_stop stop;

	if (!mte_expect(!ret, "the slot: %s", strerror(-ret)))
		return;
	stop = mte_guest_try(m, load_word, IPA + PL031_PERIPH_ID, 0, NULL);
	mte_expect(stop.why == MTE_RETURNED && stop.value == id,
		   "reason %d, value %#lx, not %#x", stop.why,
		   (unsigned long)stop.value, id);
}

static u64 load_tag(u64 addr, u64 b, u64 c, u64 d)
{
	return mte_guest_load_tag(addr);
}

/*
 * RAM with tags that are not the guest's, mapped as memory of a device is. The
 * guest may have it without tags, or not at all. In a slot of its own kind it
 * does show them.
 */
static void ram_as_device(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create(true);
	struct mte_stop as_device = {}, as_ram;
	char *ram;
	long ret;
	u64 pfn;

	ram = mmap(NULL, MTE_PAGE, PROT_READ | PROT_WRITE | PROT_MTE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
	if (ram == MAP_FAILED)
		mte_die("cannot map: %s", strerror(errno));
	mte_vmm_set_pattern(ram, IPA, MTE_PAGE, MTE_STALE);
	pfn = mte_pfn(ram);
	if (!pfn)
		mte_skip("page frame numbers are hidden");

	ret = mte_vm_add_mapping(m, map_physical(pfn * MTE_PAGE), MTE_PAGE);
	if (!ret)
		as_device = mte_guest_try(m, load_tag, IPA, 0, NULL);
	m = mte_vm_create(true);
	if (mte_vm_add_mapping(m, ram, MTE_PAGE))
		mte_die("cannot add anonymous memory");
	as_ram = mte_guest_try(m, load_tag, IPA, 0, NULL);
	if (mte_pfn(ram) != pfn)
		mte_run_again("evidence void: the page has moved");

	if (ret)
		mte_expect(ret == -EINVAL, "the slot: %s", strerror(-ret));
	else
		mte_expect((as_device.why == MTE_RUN_FAILED &&
			    as_device.value == EFAULT) ||
			   (as_device.why == MTE_RETURNED && !as_device.value),
			   "the guest stopped for reason %d, value %#lx",
			   as_device.why, (unsigned long)as_device.value);
	mte_expect(as_ram.why == MTE_RETURNED && as_ram.value == MTE_STALE,
		   "mapped as RAM: reason %d, value %#lx", as_ram.why,
		   (unsigned long)as_ram.value);
}

/*
 * RAM that a driver has mapped for the VMM, as dma_mmap_*() do. Whether a guest
 * may have it is one question, and has one answer: for a new slot, for the
 * capability, and for the guest's access. arg: what /dev/mem is opened with
 */
static void ram_of_a_driver(const struct mte_case *c)
{
	struct mte_stop stop, direct = { .why = MTE_RETURNED };
	int vm, slot, capability;
	char *ram, *mem;
	struct mte_vm *m;
	bool usable;
	u64 pfn;

	ram = mmap(NULL, MTE_PAGE, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
	if (ram == MAP_FAILED)
		mte_die("cannot map: %s", strerror(errno));
	WRITE_ONCE(*ram, 1);
	pfn = mte_pfn(ram);
	if (!pfn)
		mte_skip("page frame numbers are hidden");
	mem = map_physical_at(pfn * MTE_PAGE, c->arg, NULL);

	vm = mte_create_bare_vm();
	if (mte_set_slot(vm, 0, 0, IPA, mem, MTE_PAGE))
		mte_skip("no slot even without MTE: %s", strerror(errno));
	capability = mte_enable(vm);
	close(vm);

	m = mte_vm_create(true);
	slot = -mte_vm_add_mapping(m, mem, MTE_PAGE);
	if (!slot)
		direct = mte_guest_try(m, touch, IPA, false, NULL);

	m = create_guest();
	map_physical_at(pfn * MTE_PAGE, c->arg, mte_vm_hva(m));
	stop = mte_guest_try(m, touch, IPA, false, NULL);
	usable = stop.why == MTE_RETURNED;
	if (mte_pfn(ram) != pfn)
		mte_run_again("evidence void: the page has moved");

	mte_expect(direct.why == MTE_RETURNED,
		   "the slot is accepted, but the guest stops for reason %d, value %#lx",
		   direct.why, (unsigned long)direct.value);
	mte_expect(usable || (stop.why == MTE_RUN_FAILED && stop.value == EFAULT),
		   "the guest stopped for reason %d, value %#lx", stop.why,
		   (unsigned long)stop.value);
	mte_expect(!slot == !capability && !slot == usable,
		   "a slot: %s; the capability: %s; mapped behind a slot: %s",
		   mte_verdict(slot), mte_verdict(capability),
		   usable ? "accepted" : "refused");
}

static void copy_tags_of_device(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create(true);
	u8 *tags = calloc(1, MTE_GRANULES_PER_PAGE);
	long ret = mte_vm_add_mapping(m, map_kind(DEVICE, NULL), MTE_PAGE);

	if (!mte_expect(!ret, "the slot: %s", strerror(-ret)))
		return;
	ret = mte_write_tags(m, IPA, tags, MTE_PAGE);
	mte_expect(ret == -EFAULT, "a write returned %ld", ret);
	ret = mte_read_tags(m, IPA, tags, MTE_PAGE);
	mte_expect(ret == -EFAULT, "a read returned %ld", ret);
}

static void copy_tags_writes(const struct mte_case *c)
{
	u8 tags[SIZE / MTE_GRANULE];
	struct mte_vm *m;
	char *mem;
	long ret;

	m = create_guest();
	mem = mte_vm_hva(m);
	mte_fill_pattern(tags, sizeof(tags), NEW_TAGS);
	map_kind(c->arg, mem);
	ret = mte_write_tags(m, IPA, tags, SIZE);
	mte_expect(ret == -EFAULT, "returned %ld, not %d", ret, -EFAULT);

	/* Let the VMM itself have touched it. */
	memset(mem, 1, SIZE);
	ret = mte_write_tags(m, IPA, tags, SIZE);
	mte_expect(ret == -EFAULT, "memory in use: returned %ld, not %d", ret,
		   -EFAULT);

	/* What has no tags reads as zeros. */
	ret = mte_read_tags(m, IPA, tags, SIZE);
	mte_expect(ret == SIZE, "a read returned %ld", ret);
	for (ret = 0; ret < (long)sizeof(tags); ret++)
		if (!mte_expect(!tags[ret], "tag %ld reads %u", ret, tags[ret]))
			break;

	map_kind(ANON, mem);
	mte_write_pattern(m, IPA, SIZE, NEW_TAGS);
	mte_expect_guest_sees(m, IPA, SIZE, NEW_TAGS, "in better memory");
}

/* What cannot have tags reads as zeros, whether it was touched or not. */
static void copy_tags_reads_zeros(const struct mte_case *c)
{
	u8 tags[SIZE / MTE_GRANULE];
	struct mte_vm *m;
	int touched;
	char *mem;
	long ret;
	size_t i;

	mte_dirty_free_memory();
	m = create_guest();
	mem = map_kind(c->arg, mte_vm_hva(m));
	for (touched = 0; touched < 2; touched++) {
		memset(tags, 0xee, sizeof(tags));
		ret = mte_read_tags(m, IPA, tags, SIZE);
		mte_expect(ret == SIZE, "returned %ld, not %lu", ret, SIZE);
		for (i = 0; i < sizeof(tags); i++)
			if (!mte_expect(!tags[i], "tag %zu reads %u", i, tags[i]))
				break;
		memset(mem, 1, SIZE);
	}
}

static void logging_is_switched_on(const struct mte_case *c)
{
	struct mte_vm *m = create_guest();

	/* The guest need not ever touch it. */
	map_kind(c->arg, mte_vm_hva(m));
	mte_vm_log_dirty_pages(m, true);
	mte_vm_log_dirty_pages(m, false);
}

static void copy_tags_writes_up_to(const struct mte_case *c)
{
	long good = SIZE - MTE_PAGE, ret;
	u8 tags[SIZE / MTE_GRANULE];
	struct mte_vm *m;

	m = create_guest();
	map_kind(c->arg, mte_vm_hva(m));
	mte_fill_pattern(tags, sizeof(tags), NEW_TAGS);
	ret = mte_write_tags(m, IPA, tags, SIZE);
	mte_expect(ret == good, "returned %ld, not %ld", ret, good);
	mte_expect_guest_sees(m, IPA, good, NEW_TAGS, "pages before the file's");
}

/*
 * There is one page in the pool, so that it is the same one for the next owner.
 * Returns 0 if the kernel does not let an MTE guest have it.
 */
static int create_vm_on_hugetlb(char **mem)
{
	int vm = mte_create_bare_vm(), err;

	*mem = map_kind(PRIVATE_HUGETLB, NULL);
	if (mte_set_slot(vm, 0, 0, IPA, *mem, size_of(PRIVATE_HUGETLB)))
		mte_die("no slot even without MTE");
	err = mte_enable(vm);
	if (!err)
		return vm;
	if (err != EINVAL)
		mte_die("KVM_CAP_ARM_MTE: %s", strerror(err));
	close(vm);

	return 0;
}

static void hugetlb_passes_no_tags_on(const struct mte_case *c)
{
	size_t size = size_of(PRIVATE_HUGETLB), nr = size / MTE_GRANULE;
	u8 *tags = malloc(nr);
	struct kvm_arm_copy_mte_tags args = {
		.guest_ipa = IPA,
		.length = size,
		.addr = tags,
		.flags = KVM_ARM_TAGS_TO_GUEST,
	};
	size_t i, seen = 0;
	char *mem;
	u64 pfn;
	int vm;

	vm = create_vm_on_hugetlb(&mem);
	if (!vm) {
		ksft_print_msg("refused, there is nothing to pass on\n");
		return;
	}
	memset(tags, MTE_STALE, nr);
	if (ioctl(vm, KVM_ARM_MTE_COPY_TAGS, &args) != (int)size)
		mte_die("cannot write tags: %s", strerror(errno));
	pfn = mte_pfn(mem);
	close(vm);
	munmap(mem, size);

	vm = create_vm_on_hugetlb(&mem);
	args.flags = KVM_ARM_TAGS_FROM_GUEST;
	if (!vm || ioctl(vm, KVM_ARM_MTE_COPY_TAGS, &args) != (int)size)
		mte_die("cannot read tags: %s", strerror(errno));
	if (!pfn || mte_pfn(mem) != pfn)
		mte_run_again("evidence void: it is another page");
	for (i = 0; i < nr; i++)
		seen += !!tags[i];
	mte_expect(!seen, "the next VM's memory has %zu tags of %zu", seen, nr);
}

/*
 * The page that a VMM and KVM share for a vCPU. In a private mapping nothing but
 * its file tells it from other memory.
 */
static void slot_of_vcpu_refused(const struct mte_case *c)
{
	int vcpu = ioctl(mte_create_bare_vm(), KVM_CREATE_VCPU, 0UL);
	int vm = mte_create_bare_vm(), err;
	void *run;

	run = mmap(NULL, MTE_PAGE, PROT_READ, MAP_PRIVATE, vcpu, 0);
	if (run == MAP_FAILED)
		mte_die("cannot map a vCPU: %s", strerror(errno));
	err = mte_set_slot(vm, 0, 0, IPA, run, MTE_PAGE);
	if (err)
		mte_die("no slot even without MTE: %s", strerror(err));
	mte_set_slot(vm, 0, 0, IPA, run, 0);

	if (mte_enable(vm))
		mte_die("cannot enable KVM_CAP_ARM_MTE");
	err = mte_set_slot(vm, 0, 0, IPA, run, MTE_PAGE);
	mte_expect(err == EINVAL, "the slot: %s", mte_verdict(err));
}

#define HUGETLB		MTE_IF(MTE_ABI_HUGETLB, MTE_ON_OWN)
#define NO_HUGETLB	MTE_IF(!MTE_ABI_HUGETLB, MTE_ON_OWN)
#define FILES		MTE_IF(MTE_ABI_PRIVATE_FILE, MTE_ON_OWN)
#define NO_FILES	MTE_IF(!MTE_ABI_PRIVATE_FILE, MTE_ON_OWN)

static const struct mte_case cases[] = {
	{ "slot_of_anon_is_accepted", slot_accepted, MTE_ON_OWN, ANON },
	{ "slot_of_shared_memfd_is_accepted",
	  slot_accepted, MTE_ON_OWN, SHARED_MEMFD },
	{ "slot_of_private_memfd_is_accepted",
	  slot_accepted, MTE_ON_OWN, PRIVATE_MEMFD },
	{ "slot_of_private_hugetlb_is_accepted",
	  slot_accepted, HUGETLB, PRIVATE_HUGETLB },
	{ "slot_of_private_hugetlb_is_refused",
	  slot_refused, NO_HUGETLB, PRIVATE_HUGETLB },
	{ "slot_of_shared_hugetlb_is_accepted",
	  slot_accepted, HUGETLB, SHARED_HUGETLB },
	{ "slot_of_shared_hugetlb_is_refused",
	  slot_refused, NO_HUGETLB, SHARED_HUGETLB },
	{ "slot_of_private_file_is_accepted",
	  slot_accepted, FILES, PRIVATE_FILE },
	{ "slot_that_ends_in_private_file_is_accepted",
	  slot_accepted, FILES, PRIVATE_FILE_BEHIND_ANON },
	{ "slot_of_device_memory_is_accepted",
	  slot_accepted, MTE_ON_OWN, DEVICE },
	{ "slot_of_shared_file_is_refused",
	  slot_refused, MTE_ON_OWN, SHARED_FILE },
	{ "slot_of_private_file_is_refused",
	  slot_refused, NO_FILES, PRIVATE_FILE },
	{ "slot_that_ends_in_shared_file_is_refused",
	  slot_refused, MTE_ON_OWN, SHARED_FILE_BEHIND_ANON },
	{ "slot_that_ends_in_private_file_is_refused",
	  slot_refused, NO_FILES, PRIVATE_FILE_BEHIND_ANON },
	{ "slot_of_read_only_shared_file_is_refused",
	  slot_refused, MTE_ON_OWN, SHARED_FILE | READ_ONLY },
	{ "slot_of_guest_memfd_mapping_is_refused",
	  slot_refused, MTE_ON_OWN, GUEST_MEMFD },
	{ "slot_of_vdso_is_refused", slot_refused, MTE_ON_OWN, VDSO },
	{ "slot_with_guest_memfd_is_refused",
	  guest_memfd_slot_refused, MTE_ON_OWN },

	{ "capability_with_slot_of_anon_is_accepted",
	  capability_accepted, MTE_ON_OWN, ANON },
	{ "capability_with_slot_of_shared_memfd_is_accepted",
	  capability_accepted, MTE_ON_OWN, SHARED_MEMFD },
	{ "capability_with_slot_of_private_memfd_is_accepted",
	  capability_accepted, MTE_ON_OWN, PRIVATE_MEMFD },
	{ "capability_with_slot_of_private_hugetlb_is_accepted",
	  capability_accepted, HUGETLB, PRIVATE_HUGETLB },
	{ "capability_with_slot_of_private_hugetlb_is_refused",
	  capability_refused, NO_HUGETLB, PRIVATE_HUGETLB },
	{ "capability_with_slot_of_shared_hugetlb_is_accepted",
	  capability_accepted, HUGETLB, SHARED_HUGETLB },
	{ "capability_with_slot_of_shared_hugetlb_is_refused",
	  capability_refused, NO_HUGETLB, SHARED_HUGETLB },
	{ "capability_with_slot_of_private_file_is_accepted",
	  capability_accepted, FILES, PRIVATE_FILE },
	{ "capability_with_slot_of_device_memory_is_accepted",
	  capability_accepted, MTE_ON_OWN, DEVICE },
	{ "capability_with_slot_of_shared_file_is_refused",
	  capability_refused, MTE_ON_OWN, SHARED_FILE },
	{ "capability_with_slot_of_private_file_is_refused",
	  capability_refused, NO_FILES, PRIVATE_FILE },
	{ "capability_with_slot_that_ends_in_shared_file_is_refused",
	  capability_refused, MTE_ON_OWN, SHARED_FILE_BEHIND_ANON },
	{ "capability_with_slot_that_ends_in_private_file_is_refused",
	  capability_refused, NO_FILES, PRIVATE_FILE_BEHIND_ANON },
	{ "capability_with_slot_of_read_only_shared_file_is_refused",
	  capability_refused, MTE_ON_OWN, SHARED_FILE | READ_ONLY },
	{ "capability_with_slot_of_guest_memfd_mapping_is_refused",
	  capability_refused, MTE_ON_OWN, GUEST_MEMFD },
	{ "capability_with_slot_with_guest_memfd_is_refused",
	  guest_memfd_capability_refused, MTE_ON_OWN },
	{ "capability_after_vcpu_is_refused",
	  capability_after_vcpu, MTE_ON_OWN },
	{ "capability_with_flags_is_refused",
	  capability_with_flags, MTE_ON_OWN },
	{ "capability_twice_is_no_error", capability_twice, MTE_ON_OWN },

	{ "guest_load_from_shared_file_behind_slot_is_efault",
	  guest_loads, MTE_ON_OWN, SHARED_FILE },
	{ "guest_load_from_private_file_behind_slot_is_efault",
	  guest_loads, NO_FILES, PRIVATE_FILE },
	{ "guest_load_from_copied_page_of_private_file_behind_slot_is_efault",
	  guest_loads_copy, NO_FILES, PRIVATE_FILE_BEHIND_ANON },
	{ "guest_store_to_shared_file_behind_slot_is_efault",
	  guest_stores, MTE_ON_OWN, SHARED_FILE },
	{ "guest_store_to_private_file_behind_slot_is_efault",
	  guest_stores, NO_FILES, PRIVATE_FILE },
	{ "guest_load_from_guest_memfd_mapping_behind_slot_is_efault",
	  guest_loads, MTE_ON_OWN, GUEST_MEMFD },

	{ "private_file_mapping_gives_the_file_no_tags",
	  file_keeps_no_tags, FILES },
	{ "private_file_page_copied_by_the_vmm_can_have_tags",
	  file_page_copied_by_vmm, FILES },
	{ "truncated_private_file_keeps_the_tags_that_are_left",
	  truncated_file, FILES },

	{ "dirty_logging_with_shared_file_behind_slot_is_accepted",
	  logging_is_switched_on, MTE_ON_OWN, SHARED_FILE },
	{ "dirty_logging_with_private_file_behind_slot_is_accepted",
	  logging_is_switched_on, MTE_ON_OWN, PRIVATE_FILE },

	{ "guest_can_load_from_device_memory",
	  guest_loads_from_device, MTE_ON_OWN },
	{ "ram_mapped_like_a_device_shows_no_tags", ram_as_device, MTE_ON_OWN },
	{ "ram_mapped_uncached_by_a_driver_is_refused_early_or_usable",
	  ram_of_a_driver, MTE_ON_OWN, O_SYNC },
	{ "ram_mapped_cached_by_a_driver_is_refused_early_or_usable",
	  ram_of_a_driver, MTE_ON_OWN },
	{ "copy_tags_of_device_memory_is_efault",
	  copy_tags_of_device, MTE_ON_OWN },

	{ "copy_tags_to_shared_file_behind_slot_is_efault",
	  copy_tags_writes, MTE_ON_OWN, SHARED_FILE },
	{ "copy_tags_to_private_file_behind_slot_is_efault",
	  copy_tags_writes, NO_FILES, PRIVATE_FILE },
	{ "copy_tags_to_guest_memfd_mapping_behind_slot_is_efault",
	  copy_tags_writes, MTE_ON_OWN, GUEST_MEMFD },
	{ "copy_tags_from_shared_file_behind_slot_reads_zeros",
	  copy_tags_reads_zeros, MTE_ON_OWN, SHARED_FILE },
	{ "copy_tags_from_private_file_behind_slot_reads_zeros",
	  copy_tags_reads_zeros, NO_FILES, PRIVATE_FILE },
	{ "copy_tags_up_to_shared_file_returns_bytes_done",
	  copy_tags_writes_up_to, MTE_ON_OWN, SHARED_FILE_BEHIND_ANON },
	{ "copy_tags_up_to_private_file_returns_bytes_done",
	  copy_tags_writes_up_to, NO_FILES, PRIVATE_FILE_BEHIND_ANON },

	{ "hugetlb_pool_passes_no_tags_on",
	  hugetlb_passes_no_tags_on, MTE_ON_OWN },
	{ "slot_of_vcpu_is_refused", slot_of_vcpu_refused, MTE_ON_OWN },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_LEN(cases));
}
