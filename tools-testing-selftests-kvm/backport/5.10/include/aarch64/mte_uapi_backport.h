/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests of MTE use of newer headers: the kernel does not know it. */
#ifndef SELFTEST_KVM_MTE_UAPI_BACKPORT_H
#define SELFTEST_KVM_MTE_UAPI_BACKPORT_H

#define _GNU_SOURCE
#include <linux/kvm.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif
#ifndef KVM_CAP_ARM_EL2
#define KVM_CAP_ARM_EL2		240
#endif
#ifndef KVM_ARM_VCPU_HAS_EL2
#define KVM_ARM_VCPU_HAS_EL2	7
#endif

#ifndef KVM_CREATE_GUEST_MEMFD
#define KVM_MEM_GUEST_MEMFD		0x4UL

struct kvm_create_guest_memfd {
	__u64 size;
	__u64 flags;
	__u64 reserved[6];
};

#define KVM_CREATE_GUEST_MEMFD	_IOWR(KVMIO, 0xd4, struct kvm_create_guest_memfd)

struct kvm_userspace_memory_region2 {
	__u32 slot;
	__u32 flags;
	__u64 guest_phys_addr;
	__u64 memory_size;
	__u64 userspace_addr;
	__u64 guest_memfd_offset;
	__u32 guest_memfd;
	__u32 pad1;
	__u64 pad2[14];
};

#define KVM_SET_USER_MEMORY_REGION2 \
	_IOW(KVMIO, 0x49, struct kvm_userspace_memory_region2)
#endif

#ifndef GUEST_MEMFD_FLAG_MMAP
#define GUEST_MEMFD_FLAG_MMAP		0x1ULL
#define GUEST_MEMFD_FLAG_INIT_SHARED	0x2ULL
#endif

/* As in Documentation/virt/kvm/api.rst of this tree */
#define MTE_ABI_PRIVATE_FILE		1
#define MTE_ABI_LOGS_WRITES		1
#define MTE_ABI_HUGETLB_PROT_MTE	0
#define MTE_ABI_DAX_IS_DEVICE		1
#define MTE_ABI_UNCACHED_RAM		0

#include "mte_library_backport.h"

#endif /* SELFTEST_KVM_MTE_UAPI_BACKPORT_H */
