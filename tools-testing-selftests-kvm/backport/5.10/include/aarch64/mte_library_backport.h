/* SPDX-License-Identifier: GPL-2.0 */
/* What lib/aarch64/mte.c uses of a newer library */
#ifndef SELFTEST_KVM_MTE_LIBRARY_BACKPORT_H
#define SELFTEST_KVM_MTE_LIBRARY_BACKPORT_H

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <linux/compiler.h>

#include "kselftest.h"
#include "kvm_util.h"
#include "../lib/kvm_util_internal.h"
#include "processor.h"

/* Room in slot 0 for the program, its stack and the stage-1 page tables */
#define BACKPORT_PAGES	2048
#define BACKPORT_VCPU	0

/* The library has a number for it. */
struct kvm_vcpu {
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
	internal = vcpu_find(vm, BACKPORT_VCPU);
	vcpu->fd = internal->fd;
	vcpu->run = internal->state;

	return vcpu;
}

#define vm_vcpu_add(vm, id, guest_code)	backport_vcpu_add(vm, guest_code)
/* Page tables are told which slot to use. */
#define virt_pg_map(vm, vaddr, paddr)	virt_pg_map(vm, vaddr, paddr, 0)

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
