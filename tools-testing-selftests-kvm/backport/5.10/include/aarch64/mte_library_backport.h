/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of MTE and their library use of a newer library */
#ifndef SELFTEST_KVM_MTE_LIBRARY_BACKPORT_H
#define SELFTEST_KVM_MTE_LIBRARY_BACKPORT_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <linux/bitmap.h>
#include <linux/compiler.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "../lib/kvm_util_internal.h"
#include "mte_library_common.h"
#include "processor.h"

/* Room in slot 0 for the program, its stack and the stage-1 page tables */
#define BACKPORT_PAGES	2048
#define BACKPORT_VCPU	0

/* The library has a number for it. */
struct kvm_vcpu {
	struct kvm_vm *vm;
	int fd;
	struct kvm_run *run;
};

static inline struct kvm_vm *backport_vm_create(void)
{
	struct kvm_vm *vm = vm_create(VM_MODE_DEFAULT, BACKPORT_PAGES, O_RDWR);

	kvm_vm_elf_load(vm, "/proc/self/exe", 0, 0);

	return vm;
}

#define vm_create(nr_vcpus)	backport_vm_create()

static inline struct kvm_vcpu *backport_vcpu_add(struct kvm_vm *vm,
						 void *guest_code)
{
	struct kvm_vcpu *vcpu = calloc(1, sizeof(*vcpu));
	struct vcpu *internal;

	vm_vcpu_add_default(vm, BACKPORT_VCPU, guest_code);
	vcpu->vm = vm;
	internal = vcpu_find(vm, BACKPORT_VCPU);
	vcpu->fd = internal->fd;
	vcpu->run = internal->state;

	return vcpu;
}

#define vm_vcpu_add(vm, id, guest_code)	backport_vcpu_add(vm, guest_code)
/* Page tables are told which slot to use. */
#define virt_map(vm, vaddr, paddr, pages)	virt_map(vm, vaddr, paddr, pages, 0)
#define vcpu_run_complete_io(vcpu)	vcpu_run_complete_io((vcpu)->vm, BACKPORT_VCPU)
#define vcpu_get_reg_list(vcpu)	vcpu_get_reg_list((vcpu)->vm, BACKPORT_VCPU)
#define vm_create_barebones()		((vm_create)(VM_MODE_DEFAULT, 0, O_RDWR))
#define __vm_ioctl(vm, cmd, arg)	ioctl((vm)->fd, cmd, arg)
#define bitmap_zalloc(nbits)		bitmap_alloc(nbits)

static inline struct kvm_vcpu *__vm_vcpu_add(struct kvm_vm *vm, int id)
{
	struct kvm_vcpu *vcpu = calloc(1, sizeof(*vcpu));

	vcpu->vm = vm;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, id);
	TEST_ASSERT(vcpu->fd >= 0, "KVM_CREATE_VCPU failed, errno: %i", errno);

	return vcpu;
}

static inline int __vm_set_user_memory_region(struct kvm_vm *vm, __u32 slot, __u32 flags,
					      __u64 gpa, __u64 size, void *hva)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.flags = flags,
		.guest_phys_addr = gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)hva,
	};

	return ioctl(vm->fd, KVM_SET_USER_MEMORY_REGION, &region);
}

static inline int kvm_memfd_alloc(size_t size, bool hugepages)
{
	int fd = syscall(__NR_memfd_create, "mte_test", 0);

	TEST_ASSERT(fd >= 0 && !ftruncate(fd, size), "no memfd, errno: %i", errno);

	return fd;
}

static inline int __vm_enable_cap(struct kvm_vm *vm, __u32 cap, __u64 arg0)
{
	struct kvm_enable_cap enable_cap = { .cap = cap, .args = { arg0 } };

	return ioctl(vm->fd, KVM_ENABLE_CAP, &enable_cap);
}

static inline int __vcpu_get_reg(struct kvm_vcpu *vcpu, __u64 id, void *addr)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)addr };

	return ioctl(vcpu->fd, KVM_GET_ONE_REG, &reg);
}

static inline int __vcpu_set_reg(struct kvm_vcpu *vcpu, __u64 id, __u64 val)
{
	struct kvm_one_reg reg = { .id = id, .addr = (uintptr_t)&val };

	return ioctl(vcpu->fd, KVM_SET_ONE_REG, &reg);
}

#define vcpu_get_reg(vcpu, id) ({ \
	__u64 _v; \
	TEST_ASSERT(!__vcpu_get_reg(vcpu, id, &_v), "KVM_GET_ONE_REG failed"); \
	_v; \
})
#define vcpu_set_reg(vcpu, id, val) \
	TEST_ASSERT(!__vcpu_set_reg(vcpu, id, val), "KVM_SET_ONE_REG failed")

static inline void kvm_arch_vm_finalize_vcpus(struct kvm_vm *vm)
{
}

#undef ksft_finished
static inline void __noreturn ksft_finished(void)
{
	bool done = ksft_get_pass_cnt() + ksft_get_xskip_cnt() == ksft_plan;

	exit(done ? ksft_exit_pass() : ksft_exit_fail());
}

#endif /* SELFTEST_KVM_MTE_LIBRARY_BACKPORT_H */
