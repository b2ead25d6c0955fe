/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of MTE use of newer headers: the kernel does not know it. */
#ifndef SELFTEST_KVM_MTE_UAPI_BACKPORT_H
#define SELFTEST_KVM_MTE_UAPI_BACKPORT_H

#include <linux/kvm.h>

#ifndef KVM_CAP_ARM_EL2
#define KVM_CAP_ARM_EL2		240
#endif

#ifndef GUEST_MEMFD_FLAG_MMAP
#define GUEST_MEMFD_FLAG_MMAP		0x1ULL
#define GUEST_MEMFD_FLAG_INIT_SHARED	0x2ULL
#endif

/* As in Documentation/virt/kvm/api.rst of this tree */
#define MTE_ABI_HUGETLB			0

#include "mte_library_backport.h"

#endif /* SELFTEST_KVM_MTE_UAPI_BACKPORT_H */
