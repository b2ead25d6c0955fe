// SPDX-License-Identifier: GPL-2.0
/*
 * mte_memory_types_test - which memory an MTE guest may have
 *
 * Memory that can carry tags, as far as the kernel lets a VMM have it with
 * PROT_MTE, is accepted: anonymous memory, memfds shared and private. The pages
 * of a file in a shared mapping are refused, as are those of guest_memfd: nothing
 * keeps their tags. Memory of a device is accepted, as it is mapped in a way that
 * knows no tags, and so is RAM that the VMM has mapped like that, or else it is
 * refused (MTE_ABI_UNCACHED_RAM).
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
#include <sys/mman.h>
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
	/* The same, in a slot that has the guest_memfd, too */
	SLOT_WITH_GUEST_MEMFD,
	/* Private, and of the kernel's image */
	VDSO,
	/*
	 * What a VMM and KVM share for a vCPU. In a private mapping nothing but its
	 * file tells it from other memory.
	 */
	VCPU,
};

/* Beside a kind in a case's arg: a read-only slot, a guest that stores */
#define READ_ONLY	0x100
#define STORE		0x200

static enum kind kind_of(const struct mte_case *c)
{
	return c->arg & 0xff;
}

#define HUGEPAGES	"/sys/kernel/mm/hugepages/hugepages"
#define HUGETLB_SHIFT	__builtin_ctzl(mte_unit(MTE_HUGETLB))

static size_t size_of(enum kind kind)
{
	if (kind == DEVICE || kind == VDSO || kind == VCPU)
		return MTE_PAGE;

	return kind == PRIVATE_HUGETLB || kind == SHARED_HUGETLB ?
	       mte_unit(MTE_HUGETLB) : SIZE;
}

/* For the slot that is made next of a mapping of it */
static int guest_memfd;

static int create_guest_memfd(struct kvm_vm *vm)
{
	struct kvm_create_guest_memfd args = {
		.size = SIZE,
		.flags = GUEST_MEMFD_FLAG_MMAP |
			 GUEST_MEMFD_FLAG_INIT_SHARED,
	};

	guest_memfd = __vm_ioctl(vm, KVM_CREATE_GUEST_MEMFD, &args);
	if (guest_memfd < 0)
		mte_skip("no guest_memfd that can be mapped: %s", strerror(errno));

	return guest_memfd;
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

/* Map that kind of memory, for that VM (NULL: any will do), at @where if that is not NULL. */
static char *map_kind(enum kind kind, struct kvm_vm *vm, char *where)
{
	int flags = MAP_PRIVATE, prot = PROT_READ | PROT_WRITE, fd = -1;
	char *mem;

	switch (kind) {
	case DEVICE:
		return map_device();
	case VDSO:
		mem = (char *)getauxval(AT_SYSINFO_EHDR);
		if (!mem)
			mte_skip("kernel without vDSO");
		return mem;
	case VCPU:
		fd = __vm_ioctl(vm_create_barebones(), KVM_CREATE_VCPU, (void *)0);
		prot = PROT_READ;
		break;
	case SHARED_MEMFD:
	case PRIVATE_MEMFD:
		fd = kvm_memfd_alloc(SIZE, false);
		flags = kind == SHARED_MEMFD ? MAP_SHARED : MAP_PRIVATE;
		break;
	case GUEST_MEMFD:
	case SLOT_WITH_GUEST_MEMFD:
		fd = create_guest_memfd(vm ? vm : vm_create_barebones());
		flags = MAP_SHARED;
		break;
	case SHARED_FILE:
	case PRIVATE_FILE:
		fd = mte_open_file(SIZE);
		flags = kind == SHARED_FILE ? MAP_SHARED : MAP_PRIVATE;
		break;
	case PRIVATE_HUGETLB:
	case SHARED_HUGETLB:
		need_free_huge_page();
		flags = kind == SHARED_HUGETLB ? MAP_SHARED : MAP_PRIVATE;
		flags |= MAP_ANONYMOUS | MAP_HUGETLB | HUGETLB_SHIFT << MAP_HUGE_SHIFT;
		break;
	default:
		flags |= MAP_ANONYMOUS;
	}

	mem = mmap(where, size_of(kind), prot, flags | (where ? MAP_FIXED : 0), fd, 0);
	if (mem == MAP_FAILED && flags & MAP_HUGETLB)
		mte_skip("no hugetlb memory: %s", strerror(errno));
	if (mem == MAP_FAILED)
		mte_die("cannot map: %s", strerror(errno));

	if (kind != SHARED_FILE_BEHIND_ANON && kind != PRIVATE_FILE_BEHIND_ANON)
		return mem;
	flags = kind == SHARED_FILE_BEHIND_ANON ? MAP_SHARED : MAP_PRIVATE;
	if (mmap(mem + SIZE - MTE_PAGE, MTE_PAGE, prot, flags | MAP_FIXED,
		 mte_open_file(SIZE), 0) == MAP_FAILED)
		mte_die("cannot map: %s", strerror(errno));

	return mem;
}

/* The ioctl is refused with EINVAL in a VM without MTE, whatever it asks for. */
static bool has_mte(struct kvm_vm *vm)
{
	struct kvm_arm_copy_mte_tags args = { .length = 0 };

	return !__vm_ioctl(vm, KVM_ARM_MTE_COPY_TAGS, &args);
}

/* Returns 0 or -errno. */
static int set_slot(struct kvm_vm *vm, unsigned int slot, u64 ipa, char *mem,
		    unsigned long kind)
{
	struct kvm_userspace_memory_region2 region = {
		.slot = slot,
		.flags = KVM_MEM_GUEST_MEMFD,
		.guest_phys_addr = ipa,
		.memory_size = SIZE,
		.userspace_addr = (uintptr_t)mem,
		.guest_memfd = guest_memfd,
	};

	if (kind == SLOT_WITH_GUEST_MEMFD)
		return __vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION2, &region) ? -errno : 0;

	return mte_set_slot(vm, slot, kind & READ_ONLY ? KVM_MEM_READONLY : 0, ipa, mem,
			    size_of(kind & ~READ_ONLY));
}

static void need_slot(struct kvm_vm *vm, unsigned int slot, u64 ipa, char *mem,
		      unsigned long kind)
{
	if (set_slot(vm, slot, ipa, mem, kind))
		mte_die("no slot even without MTE: %s", strerror(errno));
}

static struct kvm_vm *create_vm_with_mte(void)
{
	struct kvm_vm *vm = vm_create_barebones();

	if (mte_enable(vm))
		mte_die("cannot enable KVM_CAP_ARM_MTE: %s", strerror(errno));

	return vm;
}

static void slot_accepted(const struct mte_case *c)
{
	struct kvm_vm *vm = create_vm_with_mte();

	mte_expect_return(set_slot(vm, 0, IPA, map_kind(c->arg, vm, NULL), c->arg), 0, "the slot");
}

static void slot_refused(const struct mte_case *c)
{
	struct kvm_vm *vm = vm_create_barebones();
	char *mem = map_kind(kind_of(c), vm, NULL);

	/* It is all right without MTE. */
	need_slot(vm, 0, IPA, mem, c->arg);
	if (mte_set_slot(vm, 0, 0, IPA, mem, 0) || mte_enable(vm))
		mte_die("cannot delete the slot, or enable MTE: %s", strerror(errno));
	mte_expect_return(set_slot(vm, 0, IPA, mem, c->arg), -EINVAL, "the slot");
	/* The VM can have other memory there. */
	mte_expect_return(set_slot(vm, 0, IPA, map_kind(ANON, vm, NULL), ANON), 0,
			  "another slot afterwards");
}

static void capability_accepted(const struct mte_case *c)
{
	struct kvm_vm *vm = vm_create_barebones();

	need_slot(vm, 0, IPA, map_kind(c->arg, vm, NULL), c->arg);
	mte_expect_return(mte_enable(vm), 0, "the capability");
	mte_expect(has_mte(vm), "the VM has no MTE");
}

static void capability_refused(const struct mte_case *c)
{
	struct kvm_vm *vm = vm_create_barebones();
	char *mem = map_kind(kind_of(c), vm, NULL);

	/* Two that are all right: have neither the first nor the last one refused. */
	need_slot(vm, 2, IPA, map_kind(ANON, vm, NULL), ANON);
	need_slot(vm, 4, 2 * IPA, mem, c->arg);
	need_slot(vm, 6, 3 * IPA, map_kind(ANON, vm, NULL), ANON);

	mte_expect_return(mte_enable(vm), -EINVAL, "the capability");
	mte_expect(!has_mte(vm), "the VM has MTE all the same");

	if (mte_set_slot(vm, 4, 0, 2 * IPA, mem, 0))
		mte_die("cannot delete the slot: %s", strerror(errno));
	mte_expect_return(mte_enable(vm), 0, "the capability without that slot");
	mte_expect(has_mte(vm), "the VM has no MTE without that slot");
}

static void capability_after_vcpu(const struct mte_case *c)
{
	struct kvm_vm *vm = vm_create_barebones();

	if (__vm_ioctl(vm, KVM_CREATE_VCPU, (void *)0) < 0)
		mte_die("no vCPU: %s", strerror(errno));
	mte_expect_return(mte_enable(vm), -EINVAL, "the capability");
	mte_expect(!has_mte(vm), "the VM has MTE all the same");
}

static void capability_with_flags(const struct mte_case *c)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_ARM_MTE, .flags = 1 };
	struct kvm_vm *vm = vm_create_barebones();
	int err = __vm_ioctl(vm, KVM_ENABLE_CAP, &cap) ? -errno : 0;

	mte_expect_return(err, -EINVAL, "the capability with flags");
	mte_expect(!has_mte(vm), "the VM has MTE all the same");
}

static void capability_twice(const struct mte_case *c)
{
	struct kvm_vm *vm = create_vm_with_mte();

	mte_expect_return(mte_enable(vm), 0, "the second time");
	mte_expect(has_mte(vm), "the VM has no MTE");
}

/*
 * Memory that changes behind a slot
 */

/* A guest with OLD_TAGS in all of its memory, which is anonymous */
static struct mte_vm *create_guest(void)
{
	struct mte_vm *m = mte_vm_create(true);

	if (mte_vm_add_mapping(m, map_kind(ANON, NULL, NULL), SIZE))
		mte_die("cannot add anonymous memory: %s", strerror(errno));
	mte_guest_set_pattern(m, IPA, SIZE, OLD_TAGS);

	return m;
}

static u64 touch(u64 addr, u64 store, u64 c, u64 d)
{
	if (store)
		WRITE_ONCE(*(u64 *)addr, addr);

	return READ_ONCE(*(u64 *)addr);
}

static void guest_touches(const struct mte_case *c)
{
	struct mte_vm *m = create_guest();

	map_kind(kind_of(c), NULL, m->hva);
	if (!mte_expect_stop(mte_guest_try(m, touch, IPA, c->arg & STORE, NULL), EFAULT,
			     "an access"))
		return;

	/* The access is made again. */
	map_kind(ANON, NULL, m->hva);
	mte_expect_stop(mte_guest_run(m), 0, "in better memory");
	mte_expect_guest_sees(m, IPA, SIZE, MTE_ALL_ZERO, "in better memory");
}

/*
 * The VMM writes to its private mapping of the file, in the last page, so that
 * a copy takes the place of a page that was mapped. Older kernels tell KVM of
 * the copy, which may map it before the guest asks for it; the guest's access
 * to the other pages makes sure that there is a page table to do so.
 */
static void guest_loads_copy(const struct mte_case *c)
{
	struct mte_vm *m = create_guest();
	u64 last = SIZE - MTE_PAGE;

	map_kind(c->arg, NULL, m->hva);
	mte_guest_set_pattern(m, IPA, last, OLD_TAGS);
	(void)READ_ONCE(m->hva[last]);
	WRITE_ONCE(m->hva[last], 1);
	mte_expect_stop(mte_guest_try(m, touch, IPA + last, false, NULL), EFAULT,
			"a load from the copy");
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
	char *mem = kvm_mmap(SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd);
	struct mte_vm *m = mte_vm_create(true);

	if (mte_vm_add_mapping(m, mem, SIZE))
		mte_die("cannot add the file: %s", strerror(errno));

	return m;
}

static u64 data_at(struct mte_vm *m, u64 page)
{
	return READ_ONCE(*(u64 *)(m->hva + page * MTE_PAGE));
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

	WRITE_ONCE(*(u64 *)(m->hva + last), NEW_TAGS);
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
	struct mte_vm *m;
	int fd;

	mte_dirty_free_memory();
	fd = open_file_with_data();
	m = create_guest_on_file(fd);
	mte_guest_set_pattern(m, IPA, SIZE, OLD_TAGS);
	if (ftruncate(fd, half))
		mte_die("ftruncate: %s", strerror(errno));

	mte_expect_return(mte_read_tags(m, IPA, tags, SIZE), half, "a read");
	mte_fill_pattern(tags, sizeof(tags), NEW_TAGS);
	mte_expect_return(mte_write_tags(m, IPA, tags, SIZE), half, "a write");
	mte_expect_stop(mte_guest_try(m, touch, IPA + half, true, NULL), EFAULT,
			"behind the file's end");

	/* The access is made again. */
	if (ftruncate(fd, SIZE))
		mte_die("ftruncate: %s", strerror(errno));
	mte_expect_stop(mte_guest_run(m), 0, "with a longer file");
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

static struct mte_vm *create_guest_on_device(char *mem)
{
	struct mte_vm *m = mte_vm_create(true);

	if (mte_vm_add_mapping(m, mem, MTE_PAGE))
		mte_die("no slot of device memory: %s", strerror(errno));

	return m;
}

static void guest_loads_from_device(const struct mte_case *c)
{
	char *mem = map_device();
	u32 id = READ_ONCE(*(u32 *)(mem + PL031_PERIPH_ID));
	struct mte_vm *m = create_guest_on_device(mem);
	struct mte_stop stop;

	stop = mte_guest_try(m, load_word, IPA + PL031_PERIPH_ID, 0, NULL);
	if (mte_expect_stop(stop, 0, "a load"))
		mte_expect(stop.value == id, "the guest reads %#lx, not %#x",
			   (unsigned long)stop.value, id);
}

static u64 load_tag(u64 addr, u64 b, u64 c, u64 d)
{
	return mte_guest_load_tag(addr);
}

/* A page of RAM that stays where it is; its frame's number */
static u64 lock_page(int prot, char **ram)
{
	u64 pfn;

	*ram = kvm_mmap(MTE_PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1);
	WRITE_ONCE(**ram, 1);
	pfn = mte_pfn(*ram);
	if (!pfn)
		mte_skip("page frame numbers are hidden");

	return pfn;
}

/*
 * RAM with tags that are not the guest's, mapped as memory of a device is: the guest
 * has it without tags, if at all. In a slot of its own kind it does show them.
 */
static void ram_as_device(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create(true);
	struct mte_stop stop;
	char *ram;
	u64 pfn = lock_page(PROT_READ | PROT_WRITE | PROT_MTE, &ram);
	long ret;

	mte_vmm_set_pattern(ram, IPA, MTE_PAGE, MTE_STALE);
	ret = mte_vm_add_mapping(m, map_physical(pfn * MTE_PAGE), MTE_PAGE);
	mte_expect_return(ret, MTE_ABI_UNCACHED_RAM ? 0 : -EINVAL, "mapped as a device's");
	if (!ret) {
		stop = mte_guest_try(m, load_tag, IPA, 0, NULL);
		if (mte_expect_stop(stop, 0, "mapped as a device's"))
			mte_expect(!stop.value, "mapped as a device's: a tag of %#lx",
				   (unsigned long)stop.value);
	}

	m = mte_vm_create(true);
	if (mte_vm_add_mapping(m, ram, MTE_PAGE))
		mte_die("cannot add anonymous memory: %s", strerror(errno));
	stop = mte_guest_try(m, load_tag, IPA, 0, NULL);
	if (mte_pfn(ram) != pfn)
		mte_run_again("evidence void: the page has moved");
	if (mte_expect_stop(stop, 0, "mapped as RAM"))
		mte_expect(stop.value == MTE_STALE, "mapped as RAM: a tag of %#lx, not %#lx",
			   (unsigned long)stop.value, MTE_STALE);
}

/*
 * RAM that a driver has mapped for the VMM, as dma_mmap_*() do. A guest may have it if
 * it is mapped as a device's, and then for a new slot, for the capability, and for its
 * access; else for none of them. arg: what /dev/mem is opened with
 */
static void ram_of_a_driver(const struct mte_case *c)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct mte_vm *m = mte_vm_create(true);
	bool usable = MTE_ABI_UNCACHED_RAM && c->arg == O_SYNC;
	char *ram, *mem;
	u64 pfn = lock_page(PROT_READ | PROT_WRITE, &ram);

	mem = map_physical_at(pfn * MTE_PAGE, c->arg, NULL);
	if (mte_set_slot(vm, 0, 0, IPA, mem, MTE_PAGE))
		mte_skip("no slot even without MTE: %s", strerror(errno));
	mte_expect_return(mte_enable(vm), usable ? 0 : -EINVAL, "the capability");
	if (mte_expect_return(mte_vm_add_mapping(m, mem, MTE_PAGE), usable ? 0 : -EINVAL,
			      "the slot") && usable)
		mte_expect_stop(mte_guest_try(m, touch, IPA, false, NULL), 0,
				"a load from the slot");

	m = create_guest();
	map_physical_at(pfn * MTE_PAGE, c->arg, m->hva);
	mte_expect_stop(mte_guest_try(m, touch, IPA, false, NULL), usable ? 0 : EFAULT,
			"mapped behind a slot");
	if (mte_pfn(ram) != pfn)
		mte_run_again("evidence void: the page has moved");
}

static void copy_tags_of_device(const struct mte_case *c)
{
	struct mte_vm *m = create_guest_on_device(map_device());
	u8 tags[MTE_MAX_TAGS] = {};

	mte_expect_return(mte_write_tags(m, IPA, tags, MTE_PAGE), -EFAULT, "a write");
	mte_expect_return(mte_read_tags(m, IPA, tags, MTE_PAGE), -EFAULT, "a read");
}

/* What cannot have tags reads as zeros, whether it was touched or not. */
static void expect_zeros(struct mte_vm *m)
{
	u8 tags[SIZE / MTE_GRANULE];
	size_t i;

	memset(tags, 0xee, sizeof(tags));
	mte_expect_return(mte_read_tags(m, IPA, tags, SIZE), SIZE, "a read");
	for (i = 0; i < sizeof(tags); i++)
		if (!mte_expect(!tags[i], "tag %zu reads %u", i, tags[i]))
			break;
}

static void copy_tags_writes(const struct mte_case *c)
{
	u8 tags[SIZE / MTE_GRANULE];
	struct mte_vm *m = create_guest();

	mte_fill_pattern(tags, sizeof(tags), NEW_TAGS);
	map_kind(c->arg, NULL, m->hva);
	mte_expect_return(mte_write_tags(m, IPA, tags, SIZE), -EFAULT, "a write");
	/* Let the VMM itself have touched it. */
	memset(m->hva, 1, SIZE);
	mte_expect_return(mte_write_tags(m, IPA, tags, SIZE), -EFAULT, "memory in use");
	expect_zeros(m);

	map_kind(ANON, NULL, m->hva);
	mte_write_pattern(m, IPA, SIZE, NEW_TAGS);
	mte_expect_guest_sees(m, IPA, SIZE, NEW_TAGS, "in better memory");
}

static void copy_tags_reads_zeros(const struct mte_case *c)
{
	struct mte_vm *m;

	mte_dirty_free_memory();
	m = create_guest();
	map_kind(c->arg, NULL, m->hva);
	expect_zeros(m);
	memset(m->hva, 1, SIZE);
	expect_zeros(m);
}

static void logging_is_switched_on(const struct mte_case *c)
{
	struct mte_vm *m = create_guest();

	/* The guest need not ever touch it. */
	map_kind(c->arg, NULL, m->hva);
	mte_vm_log_dirty_pages(m, true);
	mte_vm_log_dirty_pages(m, false);
}

static void copy_tags_writes_up_to(const struct mte_case *c)
{
	struct mte_vm *m = create_guest();
	u64 good = SIZE - MTE_PAGE;
	u8 tags[SIZE / MTE_GRANULE];

	map_kind(c->arg, NULL, m->hva);
	mte_fill_pattern(tags, sizeof(tags), NEW_TAGS);
	mte_expect_return(mte_write_tags(m, IPA, tags, SIZE), good, "a write");
	mte_expect_guest_sees(m, IPA, good, NEW_TAGS, "pages before the file's");
}

/*
 * Have all tags of a hugetlb page read or written, in a VM of its own that gets the
 * capability after the slot. There is one page in the pool, so that it is the same one
 * for the next owner. Returns where it is, or 0 if the VM cannot have it.
 */
static u64 copy_tags_of_hugetlb(u8 *tags, u64 direction)
{
	size_t size = size_of(PRIVATE_HUGETLB);
	struct kvm_arm_copy_mte_tags args = {
		.guest_ipa = IPA,
		.length = size,
		.addr = tags,
		.flags = direction,
	};
	struct kvm_vm *vm = vm_create_barebones();
	char *mem = map_kind(PRIVATE_HUGETLB, vm, NULL);
	int err;
	u64 pfn;

	need_slot(vm, 0, IPA, mem, PRIVATE_HUGETLB);
	err = mte_enable(vm);
	mte_expect_return(err, MTE_ABI_HUGETLB ? 0 : -EINVAL, "the capability");
	if (err)
		return 0;
	if (__vm_ioctl(vm, KVM_ARM_MTE_COPY_TAGS, &args) != (int)size)
		mte_die("cannot copy tags: %s", strerror(errno));
	pfn = mte_pfn(mem);
	kvm_vm_free(vm);
	munmap(mem, size);

	return pfn;
}

static void hugetlb_passes_no_tags_on(const struct mte_case *c)
{
	size_t i, seen = 0, nr = size_of(PRIVATE_HUGETLB) / MTE_GRANULE;
	u8 *tags = malloc(nr);
	u64 pfn;

	memset(tags, MTE_STALE, nr);
	pfn = copy_tags_of_hugetlb(tags, KVM_ARM_TAGS_TO_GUEST);
	if (!pfn)
		return;
	if (copy_tags_of_hugetlb(tags, KVM_ARM_TAGS_FROM_GUEST) != pfn)
		mte_run_again("evidence void: it is another page");
	for (i = 0; i < nr; i++)
		seen += !!tags[i];
	mte_expect(!seen, "the next VM's memory has %zu tags of %zu", seen, nr);
}

#define HUGETLB		MTE_IF(MTE_ABI_HUGETLB, MTE_ON_OWN)
#define NO_HUGETLB	MTE_IF(!MTE_ABI_HUGETLB, MTE_ON_OWN)
#define FILES		MTE_IF(MTE_ABI_PRIVATE_FILE, MTE_ON_OWN)
#define NO_FILES	MTE_IF(!MTE_ABI_PRIVATE_FILE, MTE_ON_OWN)

static const struct mte_case cases[] = {
	{ "slot_of_anon_is_accepted", slot_accepted, MTE_ON_OWN, ANON },
	{ "slot_of_shared_memfd_is_accepted", slot_accepted, MTE_ON_OWN, SHARED_MEMFD },
	{ "slot_of_private_memfd_is_accepted", slot_accepted, MTE_ON_OWN, PRIVATE_MEMFD },
	{ "slot_of_private_hugetlb_is_accepted", slot_accepted, HUGETLB, PRIVATE_HUGETLB },
	{ "slot_of_private_hugetlb_is_refused", slot_refused, NO_HUGETLB, PRIVATE_HUGETLB },
	{ "slot_of_shared_hugetlb_is_accepted", slot_accepted, HUGETLB, SHARED_HUGETLB },
	{ "slot_of_shared_hugetlb_is_refused", slot_refused, NO_HUGETLB, SHARED_HUGETLB },
	{ "slot_of_private_file_is_accepted", slot_accepted, FILES, PRIVATE_FILE },
	{ "slot_that_ends_in_private_file_is_accepted",
	  slot_accepted, FILES, PRIVATE_FILE_BEHIND_ANON },
	{ "slot_of_device_memory_is_accepted", slot_accepted, MTE_ON_OWN, DEVICE },
	{ "slot_of_shared_file_is_refused", slot_refused, MTE_ON_OWN, SHARED_FILE },
	{ "slot_of_private_file_is_refused", slot_refused, NO_FILES, PRIVATE_FILE },
	{ "slot_that_ends_in_shared_file_is_refused",
	  slot_refused, MTE_ON_OWN, SHARED_FILE_BEHIND_ANON },
	{ "slot_that_ends_in_private_file_is_refused",
	  slot_refused, NO_FILES, PRIVATE_FILE_BEHIND_ANON },
	{ "slot_of_read_only_shared_file_is_refused",
	  slot_refused, MTE_ON_OWN, SHARED_FILE | READ_ONLY },
	{ "slot_of_guest_memfd_mapping_is_refused", slot_refused, MTE_ON_OWN, GUEST_MEMFD },
	{ "slot_of_vdso_is_refused", slot_refused, MTE_ON_OWN, VDSO },
	{ "slot_with_guest_memfd_is_refused", slot_refused, MTE_ON_OWN, SLOT_WITH_GUEST_MEMFD },
	{ "slot_of_vcpu_is_refused", slot_refused, MTE_ON_OWN, VCPU },

	{ "capability_with_slot_of_anon_is_accepted", capability_accepted, MTE_ON_OWN, ANON },
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
	  capability_refused, MTE_ON_OWN, SLOT_WITH_GUEST_MEMFD },
	{ "capability_after_vcpu_is_refused", capability_after_vcpu, MTE_ON_OWN },
	{ "capability_with_flags_is_refused", capability_with_flags, MTE_ON_OWN },
	{ "capability_twice_is_no_error", capability_twice, MTE_ON_OWN },

	{ "guest_load_from_shared_file_behind_slot_is_efault",
	  guest_touches, MTE_ON_OWN, SHARED_FILE },
	{ "guest_load_from_private_file_behind_slot_is_efault",
	  guest_touches, NO_FILES, PRIVATE_FILE },
	{ "guest_load_from_copied_page_of_private_file_behind_slot_is_efault",
	  guest_loads_copy, NO_FILES, PRIVATE_FILE_BEHIND_ANON },
	{ "guest_store_to_shared_file_behind_slot_is_efault",
	  guest_touches, MTE_ON_OWN, SHARED_FILE | STORE },
	{ "guest_store_to_private_file_behind_slot_is_efault",
	  guest_touches, NO_FILES, PRIVATE_FILE | STORE },
	{ "guest_load_from_guest_memfd_mapping_behind_slot_is_efault",
	  guest_touches, MTE_ON_OWN, GUEST_MEMFD },

	{ "private_file_mapping_gives_the_file_no_tags", file_keeps_no_tags, FILES },
	{ "private_file_page_copied_by_the_vmm_can_have_tags", file_page_copied_by_vmm, FILES },
	{ "truncated_private_file_keeps_the_tags_that_are_left", truncated_file, FILES },

	{ "dirty_logging_with_shared_file_behind_slot_is_accepted",
	  logging_is_switched_on, MTE_ON_OWN, SHARED_FILE },
	{ "dirty_logging_with_private_file_behind_slot_is_accepted",
	  logging_is_switched_on, MTE_ON_OWN, PRIVATE_FILE },

	{ "guest_can_load_from_device_memory", guest_loads_from_device, MTE_ON_OWN },
	{ "ram_mapped_like_a_device_shows_no_tags", ram_as_device, MTE_ON_OWN },
	{ "ram_mapped_uncached_by_a_driver_is_refused_early_or_usable",
	  ram_of_a_driver, MTE_ON_OWN, O_SYNC },
	{ "ram_mapped_cached_by_a_driver_is_refused_early_or_usable", ram_of_a_driver, MTE_ON_OWN },
	{ "copy_tags_of_device_memory_is_efault", copy_tags_of_device, MTE_ON_OWN },

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

	{ "hugetlb_pool_passes_no_tags_on", hugetlb_passes_no_tags_on, MTE_ON_OWN },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_SIZE(cases));
}
