/* SPDX-License-Identifier: GPL-2.0 */
/* What lib/aarch64/mte.c uses of a newer library */
#ifndef SELFTEST_KVM_MTE_LIBRARY_BACKPORT_H
#define SELFTEST_KVM_MTE_LIBRARY_BACKPORT_H

#include "kvm_util.h"

static inline void kvm_arch_vm_finalize_vcpus(struct kvm_vm *vm)
{
}

#endif /* SELFTEST_KVM_MTE_LIBRARY_BACKPORT_H */
