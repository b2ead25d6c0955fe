/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A VM whose guest sets and gets tags and data, and KVM_ARM_MTE_COPY_TAGS
 *
 * The guest has a MMU, since memory has no tags without one: gigabytes of tagged memory
 * from REGION_IPA on, a page with its code, and a doorbell.
 */
#ifndef _MTE_VM_H
#define _MTE_VM_H

#include <stddef.h>
#include <sys/ioctl.h>
#include <linux/kvm.h>

#include "mte_stress.h"

/* The ABI, spelt out: the headers of the build machine may not have it. */
#define CAP_ARM_MTE	205

struct copy_tags {
	u64 guest_ipa, length, addr, flags, reserved[2];
};

#define COPY_TAGS	_IOR(KVMIO, 0xb4, struct copy_tags)
#define TO_GUEST	0
#define FROM_GUEST	1

#define GIGABYTE	(1UL << 30)
#define CODE_IPA	(1 * GIGABYTE)
#define DOORBELL_IPA	(2 * GIGABYTE)
#define CRASH_IPA	(DOORBELL_IPA + 8)
#define REGION_IPA	(4 * GIGABYTE)
#define REGION_SIZE	GIGABYTE

/* What is in the memory at CODE_IPA; the vectors are where the code ends. */
#define VECTORS		0x800
#define TABLE		0x10000
#define GUEST_TAGS	0x20000
#define GUEST_DATA	0x40000
#define CODE_SIZE	0x60000
#define GUEST_MAX	(GUEST_DATA - GUEST_TAGS)

/*
 * x9 is where to go from the doorbell. x0: address, x1: granules, x2: stride,
 * x3: tags, x5: data, x8: 0x0101010101010101
 */
asm("	.pushsection .rodata\n"
"	.arch	armv8.5-a+memtag\n"
"	.balign	4\n"
"	.globl	guest_code, guest_set, guest_get, guest_code_end\n"
"guest_code:\n"
"0:	str	xzr, [x4]\n"
"	br	x9\n"
"guest_set:\n"
"1:	ldrb	w6, [x3], #1\n"
"	orr	x7, x0, x6, lsl #56\n"
"	stg	x7, [x7]\n"
"	ldrb	w6, [x5], #1\n"
"	mul	x6, x6, x8\n"
"	str	x6, [x0]\n"
"	add	x0, x0, x2\n"
"	subs	x1, x1, #1\n"
"	b.ne	1b\n"
"	b	0b\n"
"guest_get:\n"
"2:	mov	x7, x0\n"
"	ldg	x7, [x7]\n"
"	ubfx	x7, x7, #56, #4\n"
"	strb	w7, [x3], #1\n"
"	ldr	x6, [x0]\n"
"	strb	w6, [x5], #1\n"
"	add	x0, x0, x2\n"
"	subs	x1, x1, #1\n"
"	b.ne	2b\n"
"	b	0b\n"
"guest_code_end:\n"
"	.popsection\n");

extern const char guest_code[], guest_set[], guest_get[], guest_code_end[];

#define VM_SLOTS	5	/* one for each area */

struct vm_slot {
	bool present, logged, read_only;
	u64 ipa;
	u32 first, pages;	/* of the area */
	u8 *dirty;		/* pages that must be in the log */
};

struct vm {
	int fd, vcpu;
	bool mte;
	struct kvm_run *run;
	u8 *code;
	struct vm_slot slots[VM_SLOTS];
};

static inline int set_region(struct vm *vm, u32 slot, u32 flags, u64 ipa, void *mem, u64 size)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot, .flags = flags, .guest_phys_addr = ipa,
		.memory_size = size, .userspace_addr = (u64)mem,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region) ? -errno : 0;
}

static inline bool set_reg(struct vm *vm, u64 id, u64 value)
{
	struct kvm_one_reg reg = {
		.id = KVM_REG_ARM64 | KVM_REG_SIZE_U64 | id, .addr = (u64)&value,
	};

	return !ioctl(vm->vcpu, KVM_SET_ONE_REG, &reg);
}

#define CORE_REG(name)	(KVM_REG_ARM_CORE | offsetof(struct kvm_regs, name) / 4)
#define X(n)		(CORE_REG(regs.regs) + 2 * (n))
#define SYSTEM_REG(op0, op1, crn, crm, op2)	(KVM_REG_ARM64_SYSREG | \
	(op0) << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))

/* Blocks of 1G: the first ones are normal memory, the doorbell, and what has tags */
static inline void make_table(u64 *table)
{
	u64 i;

	for (i = 0; i < 512; i++) {
		u64 attribute = i * GIGABYTE == DOORBELL_IPA ? 1 : i >= 4 ? 2 : 0;

		/* block, AF, inner shareable */
		table[i] = i * GIGABYTE | 1 | 1 << 10 | 3 << 8 | attribute << 2;
	}
}

static inline bool start_vcpu(struct vm *vm, int kvm)
{
	struct kvm_vcpu_init init = {};

	vm->vcpu = ioctl(vm->fd, KVM_CREATE_VCPU, 0);
	if (vm->vcpu < 0 || ioctl(vm->fd, KVM_ARM_PREFERRED_TARGET, &init) ||
	    ioctl(vm->vcpu, KVM_ARM_VCPU_INIT, &init))
		return false;
	vm->run = mmap(NULL, ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0), RW, MAP_SHARED, vm->vcpu, 0);
	return vm->run != MAP_FAILED &&
	       set_reg(vm, SYSTEM_REG(3, 0, 10, 2, 0), 0xf000ff) &&	/* MAIR_EL1 */
	       set_reg(vm, SYSTEM_REG(3, 0, 2, 0, 0), CODE_IPA + TABLE) &&	/* TTBR0_EL1 */
	       /* TCR_EL1: 39 bits of 4K pages, inner shareable, write-back, TBI0, 40 bits */
	       set_reg(vm, SYSTEM_REG(3, 0, 2, 0, 2),
		       25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2UL << 32 | 1UL << 37) &&
	       set_reg(vm, SYSTEM_REG(3, 0, 12, 0, 0), CODE_IPA + VECTORS) &&
	       /* SCTLR_EL1: M, C, I, ATA and what is one */
	       set_reg(vm, SYSTEM_REG(3, 0, 1, 0, 0), 0x30d00800 | 0x1005 | 1UL << 43) &&
	       set_reg(vm, CORE_REG(regs.pc), CODE_IPA) &&
	       set_reg(vm, X(4), DOORBELL_IPA) && set_reg(vm, X(10), CRASH_IPA) &&
	       set_reg(vm, X(8), 0x0101010101010101);
}

/* Until it is at its doorbell; 0, or a negative error */
static inline int run_guest(struct vm *vm)
{
	while (ioctl(vm->vcpu, KVM_RUN, NULL))
		if (errno != EINTR)
			return -errno;
	if (vm->run->exit_reason != KVM_EXIT_MMIO || vm->run->mmio.phys_addr != DOORBELL_IPA)
		return -EILSEQ;
	return 0;
}

static inline bool create_vm(struct vm *vm, bool mte)
{
	struct kvm_enable_cap cap = { .cap = CAP_ARM_MTE };
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	u32 vectors[] = { 0xf9000140, 0x17ffffff };	/* str x0, [x10]; b . - 4 */
	u32 i;
	bool ok = false;

	memset(vm, 0, sizeof(*vm));
	if (kvm < 0)
		return false;
	vm->fd = ioctl(kvm, KVM_CREATE_VM, 0);
	vm->mte = mte;
	if (vm->fd >= 0 && (!mte || !ioctl(vm->fd, KVM_ENABLE_CAP, &cap))) {
		vm->code = mmap(NULL, CODE_SIZE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		memcpy(vm->code, guest_code, guest_code_end - guest_code);
		for (i = 0; i < 16; i++)
			memcpy(vm->code + VECTORS + i * 0x80, vectors, sizeof(vectors));
		make_table((u64 *)(vm->code + TABLE));
		ok = !set_region(vm, VM_SLOTS, 0, CODE_IPA, vm->code, CODE_SIZE) &&
		     start_vcpu(vm, kvm) && !run_guest(vm);
	}
	close(kvm);
	return ok;
}

/* The guest sets, or gets, what is in, or goes to, GUEST_TAGS and GUEST_DATA. */
static inline int guest_access(struct vm *vm, bool set, u64 ipa, u64 granules, u64 stride)
{
	u64 entry = CODE_IPA + ((set ? guest_set : guest_get) - guest_code);

	if (!set_reg(vm, X(0), ipa) || !set_reg(vm, X(1), granules) || !set_reg(vm, X(2), stride) ||
	    !set_reg(vm, X(3), CODE_IPA + GUEST_TAGS) ||
	    !set_reg(vm, X(5), CODE_IPA + GUEST_DATA) || !set_reg(vm, X(9), entry))
		return -EINVAL;
	return run_guest(vm);
}

static inline int copy_tags(struct vm *vm, struct copy_tags *args)
{
	int ret = ioctl(vm->fd, COPY_TAGS, args);

	return ret < 0 ? -errno : ret;
}

#endif /* _MTE_VM_H */
