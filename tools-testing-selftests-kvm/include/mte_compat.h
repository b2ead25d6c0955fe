/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The one place that knows how the KVM selftest library differs between the
 * kernels on which the MTE tests are built.
 *
 * The MTE tests take from that library the creation of a VM with its slot 0,
 * the guest's stage-1 page tables and the loading of the test program into the
 * guest. All else is done with plain ioctls, so that this file stays short.
 */
#ifndef SELFTEST_KVM_MTE_COMPAT_H
#define SELFTEST_KVM_MTE_COMPAT_H

#include <sys/ioctl.h>

#include "kselftest.h"

#if !__has_include("ucall_common.h")

/*
 * The library of 5.10: a vCPU is a number, page tables are told which slot to
 * use, get_reg and set_reg are names of the library, and kselftest.h lacks a
 * function.
 */
#include <fcntl.h>
#include <stdlib.h>

#define get_reg	libkvm_get_reg
#define set_reg	libkvm_set_reg
#include "kvm_util.h"
#include "processor.h"
#undef get_reg
#undef set_reg

/* Room in slot 0 for the program, its stack and the stage-1 page tables. */
#define MTE_COMPAT_PAGES	2048
#define MTE_COMPAT_VCPU		0

#define virt_pg_map(vm, vaddr, paddr)	virt_pg_map(vm, vaddr, paddr, 0)

#define ksft_finished()						\
	exit(ksft_get_pass_cnt() + ksft_get_xskip_cnt() ==	\
	     ksft_plan ? ksft_exit_pass() : ksft_exit_fail())

/* What the newer libraries hand out for a vCPU */
struct kvm_vcpu {
	struct kvm_vm *vm;
};

static inline struct kvm_vm *mte_compat_vm_create(void)
{
	struct kvm_vm *vm = vm_create(VM_MODE_DEFAULT, MTE_COMPAT_PAGES, O_RDWR);

	kvm_vm_elf_load(vm, "/proc/self/exe", 0, 0);

	return vm;
}

static inline void mte_compat_vm_free(struct kvm_vm *vm)
{
	kvm_vm_free(vm);
}

static inline int mte_compat_vm_fd(struct kvm_vm *vm)
{
	return vm_get_fd(vm);
}

static inline struct kvm_vcpu *mte_compat_vcpu_add(struct kvm_vm *vm,
						   void *guest_entry)
{
	struct kvm_vcpu *vcpu = calloc(1, sizeof(*vcpu));

	vcpu->vm = vm;
	vm_vcpu_add_default(vm, MTE_COMPAT_VCPU, guest_entry);

	return vcpu;
}

static inline struct kvm_run *mte_compat_vcpu_run_page(struct kvm_vcpu *vcpu)
{
	return vcpu_state(vcpu->vm, MTE_COMPAT_VCPU);
}

static inline int mte_compat_vcpu_ioctl(struct kvm_vcpu *vcpu,
					unsigned long cmd, void *arg)
{
	return _vcpu_ioctl(vcpu->vm, MTE_COMPAT_VCPU, cmd, arg);
}

#else

#include "kvm_util.h"
#include "processor.h"

/* The libraries that need a call after the last vCPU also brought this file. */
#if __has_include("kvm_syscalls.h")
#define mte_compat_vcpus_done(vm)	kvm_arch_vm_finalize_vcpus(vm)
#else
#define mte_compat_vcpus_done(vm)	((void)(vm))
#endif

/* Room in slot 0 for the program, its stack and the stage-1 page tables. */
static inline struct kvm_vm *mte_compat_vm_create(void)
{
	return vm_create(1);
}

static inline void mte_compat_vm_free(struct kvm_vm *vm)
{
	kvm_vm_free(vm);
}

static inline int mte_compat_vm_fd(struct kvm_vm *vm)
{
	return vm->fd;
}

static inline struct kvm_vcpu *mte_compat_vcpu_add(struct kvm_vm *vm,
						   void *guest_entry)
{
	struct kvm_vcpu *vcpu = vm_vcpu_add(vm, 0, guest_entry);

	mte_compat_vcpus_done(vm);

	return vcpu;
}

static inline struct kvm_run *mte_compat_vcpu_run_page(struct kvm_vcpu *vcpu)
{
	return vcpu->run;
}

static inline int mte_compat_vcpu_ioctl(struct kvm_vcpu *vcpu,
					unsigned long cmd, void *arg)
{
	return ioctl(vcpu->fd, cmd, arg);
}

#endif

#ifndef KVM_CAP_ARM_MTE
#define KVM_CAP_ARM_MTE			205
#endif

#endif /* SELFTEST_KVM_MTE_COMPAT_H */
