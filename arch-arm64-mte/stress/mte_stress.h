/* SPDX-License-Identifier: GPL-2.0 */
/* What the stress programs share: random numbers, tags, settings of the machine */
#ifndef _MTE_STRESS_H
#define _MTE_STRESS_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/utsname.h>

#include "mte_zram.h"

#ifndef PROT_MTE
#define PROT_MTE	0x20
#endif
#define HAS_MTE		(1UL << 18)	/* of AT_HWCAP2 */

#define GRANULE		16UL
#define RW		(PROT_READ | PROT_WRITE)
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;

/*
 * Random numbers that depend on nothing but the seed (splitmix64). Two parts of a
 * sequence have generators of their own, so that one can be left out.
 */
struct rng {
	u64 state;
};

static inline u64 rng_next(struct rng *r)
{
	u64 z = r->state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static inline struct rng rng_of(u64 seed, u64 part)
{
	struct rng r = { seed * 0xd1342543de82ef95 + part };

	rng_next(&r);
	return r;
}

static inline u64 below(struct rng *r, u64 n)
{
	return n ? rng_next(r) % n : 0;
}

static inline bool one_in(struct rng *r, u64 n)
{
	return !below(r, n);
}

/* STG and LDG are not checked against the tag of the pointer. */
static inline void set_tag(void *addr, u8 tag)
{
	u64 p = (u64)addr | (u64)tag << 56;

	asm volatile(".arch armv8.5-a+memtag\n"
		     "stg %0, [%0]" : : "r"(p) : "memory");
}

static inline u8 get_tag(const void *addr)
{
	u64 p = (u64)addr;

	asm volatile(".arch armv8.5-a+memtag\n"
		     "ldg %0, [%0]" : "+r"(p) : : "memory");
	return p >> 56 & 0xf;
}

/* Leave free memory behind that has the tag @tag wherever nobody clears it */
static inline void dirty_free_memory(size_t bytes, u8 tag)
{
	char *p = mmap(NULL, bytes, RW | PROT_MTE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	size_t i;

	if (p == MAP_FAILED)
		return;
	madvise(p, bytes / 2, MADV_HUGEPAGE);
	for (i = 0; i < bytes; i += 2 * GRANULE)
		asm volatile(".arch armv8.5-a+memtag\n"
			     "st2g %0, [%0]" : : "r"((u64)(p + i) | (u64)tag << 56) : "memory");
	munmap(p, bytes);
}

static inline double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static inline u64 number_of(const char *variable, u64 otherwise)
{
	const char *text = getenv(variable);

	return text && *text ? strtoull(text, NULL, 0) : otherwise;
}

static inline bool kernel_is_from(unsigned int major, unsigned int minor)
{
	unsigned int a = 0, b = 0;
	struct utsname name;

	uname(&name);
	sscanf(name.release, "%u.%u", &a, &b);
	return a > major || (a == major && b >= minor);
}

#endif /* _MTE_STRESS_H */
