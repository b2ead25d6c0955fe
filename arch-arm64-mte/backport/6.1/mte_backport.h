/* SPDX-License-Identifier: GPL-2.0 */
/* What the tests use of newer headers; an assembler file is built with them. */
#if !defined(_MTE_BACKPORT_H) && !defined(__ASSEMBLER__)
#define _MTE_BACKPORT_H

#define _GNU_SOURCE
#include <linux/userfaultfd.h>

#ifndef __printf
#define __printf(a, b)
#endif
#ifndef __noreturn
#define __noreturn
#endif

#ifndef UFFDIO_MOVE
struct uffdio_move {
	__u64 dst;
	__u64 src;
	__u64 len;
	__u64 mode;
	__s64 move;
};

#define UFFD_FEATURE_MOVE	0x10000
#define UFFDIO_MOVE		_IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif

#endif /* _MTE_BACKPORT_H */
