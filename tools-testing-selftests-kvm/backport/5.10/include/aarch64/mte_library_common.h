/* SPDX-License-Identifier: GPL-2.0 */
/* What all older libraries lack of those functions that the tests of MTE use */
#ifndef SELFTEST_KVM_MTE_LIBRARY_COMMON_H
#define SELFTEST_KVM_MTE_LIBRARY_COMMON_H

#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <linux/mman.h>

#include "kvm_util.h"

static inline void *kvm_mmap(size_t size, int prot, int flags, int fd)
{
	void *mem = mmap(NULL, size, prot, flags, fd, 0);

	TEST_ASSERT(mem != MAP_FAILED, "mmap() failed, errno: %i", errno);

	return mem;
}

#define kvm_gettid()		syscall(__NR_gettid)
#define kvm_pthread_create(thread, attr, fn, arg) \
	TEST_ASSERT(!pthread_create(thread, attr, fn, arg), "pthread_create() failed")

#endif /* SELFTEST_KVM_MTE_LIBRARY_COMMON_H */
