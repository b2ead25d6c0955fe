/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of MTE and their library use of a newer library */
#ifndef SELFTEST_KVM_MTE_LIBRARY_BACKPORT_H
#define SELFTEST_KVM_MTE_LIBRARY_BACKPORT_H

#include "kvm_util.h"
#include "mte_library_common.h"

static inline void kvm_arch_vm_finalize_vcpus(struct kvm_vm *vm)
{
}

#define vcpu_get_reg(vcpu, id)	({ __u64 _v; vcpu_get_reg(vcpu, id, &_v); _v; })

#endif /* SELFTEST_KVM_MTE_LIBRARY_BACKPORT_H */
