// SPDX-License-Identifier: GPL-2.0
/*
 * mte_memory_types_test - which memory an MTE guest may have
 *
 * Memory that can carry tags, as far as the kernel lets a VMM have it with
 * PROT_MTE, is accepted: anonymous memory, memfds shared and private. So is
 * private hugetlb memory, PROT_MTE or not, on kernels that ever accepted it.
 * The pages of a file are refused, shared and private: nobody looks after their
 * tags. Memory of a device is accepted, as it is mapped in a way that knows no
 * tags; but RAM that the VMM has mapped as if it were that shows none of its own.
 *
 *  - KVM_SET_USER_MEMORY_REGION says so, for the first page of a slot as for
 *    the last one
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
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kvm.h>

#include "kselftest.h"
#include "mte_compat.h"
#include "mte.h"

#define ARRAY_LEN(a)	(sizeof(a) / sizeof((a)[0]))

#define IPA		MTE_REGION_IPA
#define SIZE		(4 * MTE_PAGE)

#define OLD_TAGS	0x01dULL
#define NEW_TAGS	0x4e3ULL

enum kind {
	ANON,
	SHARED_MEMFD,
	PRIVATE_MEMFD,
	PRIVATE_HUGETLB,
	SHARED_FILE,
	PRIVATE_FILE,
	/* The last page of the slot */
	SHARED_FILE_BEHIND_ANON,
	PRIVATE_FILE_BEHIND_ANON,
	/* By /dev/mem, which makes it VM_PFNMAP, as VFIO does */
	DEVICE,
};

#define HUGETLB_POOL	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

static size_t size_of(enum kind kind)
{
	if (kind == DEVICE)
		return MTE_PAGE;

	return kind == PRIVATE_HUGETLB ? MTE_BLOCK : SIZE;
}

static int open_memfd(void)
{
	int fd = syscall(__NR_memfd_create, "mte_test", 0);

	if (fd < 0)
		mte_skip("no memfd: %s", strerror(errno));
	if (ftruncate(fd, SIZE))
		mte_die("ftruncate: %s", strerror(errno));

	return fd;
}

/* Map a page of physical memory. */
static char *map_physical(u64 pa)
{
	int fd = open("/dev/mem", O_RDWR | O_SYNC);
	char *mem;

	if (fd < 0)
		mte_skip("no /dev/mem: %s", strerror(errno));
	mem = mmap(NULL, MTE_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, pa);
	if (mem == MAP_FAILED)
		mte_skip("cannot map physical memory: %s", strerror(errno));
	close(fd);

	return mem;
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

/* Map that kind of memory, at @where if that is not NULL. */
static char *map_kind(enum kind kind, char *where)
{
	int fixed = where ? MAP_FIXED : 0, flags, fd = -1;
	char *mem;

	switch (kind) {
	case DEVICE:
		return map_device();
	case SHARED_MEMFD:
	case PRIVATE_MEMFD:
		fd = open_memfd();
		flags = kind == SHARED_MEMFD ? MAP_SHARED : MAP_PRIVATE;
		break;
	case SHARED_FILE:
	case PRIVATE_FILE:
		fd = mte_open_file(SIZE);
		flags = kind == SHARED_FILE ? MAP_SHARED : MAP_PRIVATE;
		break;
	case PRIVATE_HUGETLB:
		mte_set_tunable(HUGETLB_POOL, 1);
		flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | 21 << 26;
		break;
	default:
		flags = MAP_PRIVATE | MAP_ANONYMOUS;
	}

	mem = mmap(where, size_of(kind), PROT_READ | PROT_WRITE, flags | fixed,
		   fd, 0);
	if (mem == MAP_FAILED && kind == PRIVATE_HUGETLB)
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

/*
 * A VM and no more, as a VMM has it before it enables capabilities
 */
static int create_bare_vm(void)
{
	int kvm = open("/dev/kvm", O_RDWR);
	int vm = ioctl(kvm, KVM_CREATE_VM, 0UL);

	if (vm < 0)
		mte_die("no VM: %s", strerror(errno));
	close(kvm);

	return vm;
}

static int enable_mte(int vm)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_ARM_MTE };

	return ioctl(vm, KVM_ENABLE_CAP, &cap) ? errno : 0;
}

static int set_slot(int vm, unsigned int slot, u64 ipa, void *mem, size_t size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = ipa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)mem,
	};

	return ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) ? errno : 0;
}

/* The ioctl is refused with EINVAL in a VM without MTE, whatever it asks for. */
static bool has_mte(int vm)
{
	struct mte_copy_args args = { .length = 0 };

	return !ioctl(vm, MTE_COPY_TAGS, &args);
}

static const char *verdict_of(int error)
{
	return error ? strerror(error) : "accepted";
}

static void slot_accepted(const struct mte_case *c)
{
	char *mem = map_kind(c->arg, NULL);
	int vm = create_bare_vm(), err;

	if (enable_mte(vm))
		mte_die("cannot enable KVM_CAP_ARM_MTE");
	err = set_slot(vm, 0, IPA, mem, size_of(c->arg));
	if (err == EINVAL && c->arg == PRIVATE_HUGETLB)
		mte_skip("the kernel refuses hugetlb memory in an MTE VM");
	mte_expect(!err, "the slot: %s", verdict_of(err));
}

static void slot_refused(const struct mte_case *c)
{
	char *mem = map_kind(c->arg, NULL);
	int vm = create_bare_vm(), err;

	/* It is all right without MTE. */
	err = set_slot(vm, 0, IPA, mem, size_of(c->arg));
	if (err)
		mte_die("no slot even without MTE: %s", strerror(err));
	set_slot(vm, 0, IPA, mem, 0);

	if (enable_mte(vm))
		mte_die("cannot enable KVM_CAP_ARM_MTE");
	err = set_slot(vm, 0, IPA, mem, size_of(c->arg));
	mte_expect(err == EINVAL, "the slot: %s", verdict_of(err));
	/* The VM can have other memory there. */
	err = set_slot(vm, 0, IPA, map_kind(ANON, NULL), SIZE);
	mte_expect(!err, "another slot afterwards: %s", verdict_of(err));
}

static void capability_accepted(const struct mte_case *c)
{
	char *mem = map_kind(c->arg, NULL);
	int vm = create_bare_vm(), err;

	if (set_slot(vm, 0, IPA, mem, size_of(c->arg)))
		mte_die("no slot even without MTE");
	err = enable_mte(vm);
	if (err == EINVAL && c->arg == PRIVATE_HUGETLB)
		mte_skip("the kernel refuses hugetlb memory in an MTE VM");
	mte_expect(!err, "the capability: %s", verdict_of(err));
	mte_expect(has_mte(vm), "the VM has no MTE");
}

static void capability_refused(const struct mte_case *c)
{
	char *mem = map_kind(c->arg, NULL);
	int vm = create_bare_vm(), err;

	/* Neither the first nor the last slot, to have all looked at */
	if (set_slot(vm, 2, IPA, map_kind(ANON, NULL), SIZE) ||
	    set_slot(vm, 4, 2 * IPA, mem, size_of(c->arg)) ||
	    set_slot(vm, 6, 3 * IPA, map_kind(ANON, NULL), SIZE))
		mte_die("no slots even without MTE");

	err = enable_mte(vm);
	mte_expect(err == EINVAL, "the capability: %s", verdict_of(err));
	mte_expect(!has_mte(vm), "the VM has MTE all the same");

	if (set_slot(vm, 4, 2 * IPA, mem, 0))
		mte_die("cannot delete the slot");
	err = enable_mte(vm);
	mte_expect(!err, "the capability without that slot: %s",
		   verdict_of(err));
	mte_expect(has_mte(vm), "the VM has no MTE without that slot");
}

static void capability_after_vcpu(const struct mte_case *c)
{
	int vm = create_bare_vm(), err;

	if (ioctl(vm, KVM_CREATE_VCPU, 0UL) < 0)
		mte_die("no vCPU: %s", strerror(errno));
	err = enable_mte(vm);
	mte_expect(err == EINVAL, "the capability: %s", verdict_of(err));
	mte_expect(!has_mte(vm), "the VM has MTE all the same");
}

static void capability_with_flags(const struct mte_case *c)
{
	struct kvm_enable_cap cap = { .cap = KVM_CAP_ARM_MTE, .flags = 1 };
	int vm = create_bare_vm();

	mte_expect(ioctl(vm, KVM_ENABLE_CAP, &cap) == -1 && errno == EINVAL,
		   "flags are accepted");
	mte_expect(!has_mte(vm), "the VM has MTE all the same");
}

static void capability_twice(const struct mte_case *c)
{
	int vm = create_bare_vm(), err;

	enable_mte(vm);
	err = enable_mte(vm);
	mte_expect(!err, "the second time: %s", verdict_of(err));
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
	struct mte_vm *m = create_guest();
	char *mem = mte_vm_hva(m);
	struct mte_stop stop;

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
	struct mte_vm *m = create_guest();
	char *mem = mte_vm_hva(m);
	struct mte_stop stop;

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

static void copy_tags_of_device(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create(true);
	u8 tags[MTE_GRANULES_PER_PAGE] = {};
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
	struct mte_vm *m = create_guest();
	u8 tags[SIZE / MTE_GRANULE];
	char *mem = mte_vm_hva(m);
	long ret;

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
	struct mte_vm *m = create_guest();
	u8 tags[SIZE / MTE_GRANULE];
	long good = SIZE - MTE_PAGE, ret;

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
	int vm = create_bare_vm(), err;

	*mem = map_kind(PRIVATE_HUGETLB, NULL);
	if (set_slot(vm, 0, IPA, *mem, MTE_BLOCK))
		mte_die("no slot even without MTE");
	err = enable_mte(vm);
	if (!err)
		return vm;
	if (err != EINVAL)
		mte_die("KVM_CAP_ARM_MTE: %s", strerror(err));
	close(vm);

	return 0;
}

static void hugetlb_passes_no_tags_on(const struct mte_case *c)
{
	static u8 tags[MTE_BLOCK / MTE_GRANULE];
	struct mte_copy_args args = {
		.guest_ipa = IPA,
		.length = MTE_BLOCK,
		.addr = tags,
		.flags = MTE_TO_GUEST,
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
	memset(tags, MTE_STALE, sizeof(tags));
	if (ioctl(vm, MTE_COPY_TAGS, &args) != MTE_BLOCK)
		mte_die("cannot write tags: %s", strerror(errno));
	pfn = mte_pfn(mem);
	close(vm);
	munmap(mem, MTE_BLOCK);

	vm = create_vm_on_hugetlb(&mem);
	args.flags = MTE_FROM_GUEST;
	if (!vm || ioctl(vm, MTE_COPY_TAGS, &args) != MTE_BLOCK)
		mte_die("cannot read tags: %s", strerror(errno));
	if (!pfn || mte_pfn(mem) != pfn)
		mte_run_again("evidence void: it is another page");
	for (i = 0; i < sizeof(tags); i++)
		seen += !!tags[i];
	mte_expect(!seen, "the next VM's memory has %zu tags of %zu", seen,
		   sizeof(tags));
}

static const struct mte_case cases[] = {
	{ "slot_of_anon_is_accepted", slot_accepted, MTE_ON_OWN, ANON },
	{ "slot_of_shared_memfd_is_accepted",
	  slot_accepted, MTE_ON_OWN, SHARED_MEMFD },
	{ "slot_of_private_memfd_is_accepted",
	  slot_accepted, MTE_ON_OWN, PRIVATE_MEMFD },
	{ "slot_of_private_hugetlb_is_accepted",
	  slot_accepted, MTE_ON_OWN, PRIVATE_HUGETLB },
	{ "slot_of_device_memory_is_accepted",
	  slot_accepted, MTE_ON_OWN, DEVICE },
	{ "slot_of_shared_file_is_refused",
	  slot_refused, MTE_ON_OWN, SHARED_FILE },
	{ "slot_of_private_file_is_refused",
	  slot_refused, MTE_ON_OWN, PRIVATE_FILE },
	{ "slot_that_ends_in_shared_file_is_refused",
	  slot_refused, MTE_ON_OWN, SHARED_FILE_BEHIND_ANON },
	{ "slot_that_ends_in_private_file_is_refused",
	  slot_refused, MTE_ON_OWN, PRIVATE_FILE_BEHIND_ANON },

	{ "capability_with_slot_of_anon_is_accepted",
	  capability_accepted, MTE_ON_OWN, ANON },
	{ "capability_with_slot_of_shared_memfd_is_accepted",
	  capability_accepted, MTE_ON_OWN, SHARED_MEMFD },
	{ "capability_with_slot_of_private_memfd_is_accepted",
	  capability_accepted, MTE_ON_OWN, PRIVATE_MEMFD },
	{ "capability_with_slot_of_private_hugetlb_is_accepted",
	  capability_accepted, MTE_ON_OWN, PRIVATE_HUGETLB },
	{ "capability_with_slot_of_device_memory_is_accepted",
	  capability_accepted, MTE_ON_OWN, DEVICE },
	{ "capability_with_slot_of_shared_file_is_refused",
	  capability_refused, MTE_ON_OWN, SHARED_FILE },
	{ "capability_with_slot_of_private_file_is_refused",
	  capability_refused, MTE_ON_OWN, PRIVATE_FILE },
	{ "capability_with_slot_that_ends_in_shared_file_is_refused",
	  capability_refused, MTE_ON_OWN, SHARED_FILE_BEHIND_ANON },
	{ "capability_with_slot_that_ends_in_private_file_is_refused",
	  capability_refused, MTE_ON_OWN, PRIVATE_FILE_BEHIND_ANON },
	{ "capability_after_vcpu_is_refused",
	  capability_after_vcpu, MTE_ON_OWN },
	{ "capability_with_flags_is_refused",
	  capability_with_flags, MTE_ON_OWN },
	{ "capability_twice_is_no_error", capability_twice, MTE_ON_OWN },

	{ "guest_load_from_shared_file_behind_slot_is_efault",
	  guest_loads, MTE_ON_OWN, SHARED_FILE },
	{ "guest_load_from_private_file_behind_slot_is_efault",
	  guest_loads, MTE_ON_OWN, PRIVATE_FILE },
	{ "guest_load_from_copied_page_of_private_file_behind_slot_is_efault",
	  guest_loads_copy, MTE_ON_OWN, PRIVATE_FILE_BEHIND_ANON },
	{ "guest_store_to_shared_file_behind_slot_is_efault",
	  guest_stores, MTE_ON_OWN, SHARED_FILE },
	{ "guest_store_to_private_file_behind_slot_is_efault",
	  guest_stores, MTE_ON_OWN, PRIVATE_FILE },

	{ "dirty_logging_with_shared_file_behind_slot_is_accepted",
	  logging_is_switched_on, MTE_ON_OWN, SHARED_FILE },
	{ "dirty_logging_with_private_file_behind_slot_is_accepted",
	  logging_is_switched_on, MTE_ON_OWN, PRIVATE_FILE },

	{ "guest_can_load_from_device_memory",
	  guest_loads_from_device, MTE_ON_OWN },
	{ "ram_mapped_like_a_device_shows_no_tags", ram_as_device, MTE_ON_OWN },
	{ "copy_tags_of_device_memory_is_efault",
	  copy_tags_of_device, MTE_ON_OWN },

	{ "copy_tags_to_shared_file_behind_slot_is_efault",
	  copy_tags_writes, MTE_ON_OWN, SHARED_FILE },
	{ "copy_tags_to_private_file_behind_slot_is_efault",
	  copy_tags_writes, MTE_ON_OWN, PRIVATE_FILE },
	{ "copy_tags_up_to_shared_file_returns_bytes_done",
	  copy_tags_writes_up_to, MTE_ON_OWN, SHARED_FILE_BEHIND_ANON },
	{ "copy_tags_up_to_private_file_returns_bytes_done",
	  copy_tags_writes_up_to, MTE_ON_OWN, PRIVATE_FILE_BEHIND_ANON },

	{ "hugetlb_pool_passes_no_tags_on",
	  hugetlb_passes_no_tags_on, MTE_ON_OWN },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_LEN(cases));
}
