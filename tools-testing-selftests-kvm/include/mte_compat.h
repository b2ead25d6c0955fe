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

#include "kvm_util.h"
#include "processor.h"

/* The libraries that need a call after the last vCPU also brought this file. */
#if __has_include("kvm_syscalls.h")
#define mte_compat_vcpus_done(vm)	kvm_arch_vm_finalize_vcpus(vm)
#else
#define mte_compat_vcpus_done(vm)	do { } while (0)
#endif

#ifndef KVM_CAP_ARM_MTE
#define KVM_CAP_ARM_MTE			205
#endif

/* Room in slot 0 for the program, its stack and the stage-1 page tables. */
static inline struct kvm_vm *mte_compat_vm_create(void)
{
	return vm_create(1);
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

#endif /* SELFTEST_KVM_MTE_COMPAT_H */
