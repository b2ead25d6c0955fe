// SPDX-License-Identifier: GPL-2.0
/*
 * Is this guest able to run the tests at all?
 *
 * - the kernel offers MTE to user space,
 * - allocation tags are really kept per granule: five granules of a page get
 *   five different tags, ten are read back.  QEMU before 10 keeps only one tag
 *   for all even and one for all odd granules of a page;
 * - /dev/kvm is there, and with it KVM_CAP_ARM_MTE (argument "nokvmmte": a
 *   kernel that has no such capability yet).
 *
 * With "foreign", for a kernel that was not built here, only the first two: what
 * else is missing the tests say themselves.
 *
 * Each property is one KTAP line; the exit code is the number of failures.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define HWCAP2_MTE_BIT		(1UL << 18)
#define PROT_MTE_BIT		0x20
#define KVM_CHECK_EXTENSION_NR	0xae03
#define KVM_CAP_ARM_MTE_NR	205
#define TAGGED_ADDR_SYNC_ALL	(1UL | 1UL << 1 | 0xfffeUL << 3)
#define GRANULE			16

static int nr, failures;

static void result(int ok, const char *what, const char *why)
{
	printf("%s %d %s%s%s\n", ok ? "ok" : "not ok", ++nr, what,
	       ok ? "" : " # ", ok ? "" : why);
	failures += !ok;
}

static uint64_t with_tag(char *p, uint64_t tag)
{
	return (uint64_t)p | tag << 56;
}

static int granules_keep_tags(void)
{
	static const int tags[10] = { 5, 9, 2, 14, 7 };
	char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_MTE_BIT,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int good = page != MAP_FAILED;

	if (!good)
		return 0;
	for (int i = 0; i < 5; i++)
		asm volatile("stg %0, [%0]"
			     : : "r" (with_tag(page + i * GRANULE, tags[i])) : "memory");
	for (int i = 0; i < 10; i++) {
		uint64_t p = (uint64_t)page + i * GRANULE;

		asm volatile("ldg %0, [%0]" : "+r" (p) : : "memory");
		good &= (p >> 56 & 0xf) == tags[i];
	}
	return good;
}

int main(int argc, char **argv)
{
	int foreign = argc > 1 && !strcmp(argv[1], "foreign");
	int want_kvm_mte = argc < 2;
	int mte = !!(getauxval(AT_HWCAP2) & HWCAP2_MTE_BIT);
	int kvm;

	printf("TAP version 13\n1..%d\n", foreign ? 2 : want_kvm_mte ? 5 : 4);
	result(mte, "user_space_has_mte",
	       "no MTE in this guest: start QEMU with -M virt,mte=on -cpu max");
	if (mte)
		prctl(PR_SET_TAGGED_ADDR_CTRL, TAGGED_ADDR_SYNC_ALL, 0, 0, 0);
	result(mte && granules_keep_tags(), "each_granule_keeps_its_tag",
	       "5 granules tagged, 10 read back, they differ: QEMU 10 or newer is needed");
	if (foreign)
		return failures;
	kvm = open("/dev/kvm", O_RDWR);
	result(kvm >= 0, "kvm_is_there", "no /dev/kvm: start QEMU with -M virt,virtualization=on");
	result(!access("/sys/kernel/debug/race_window/function", W_OK),
	       "race_window_is_loaded", "race_window.ko cannot be loaded: no race can be shown");
	if (want_kvm_mte)
		result(kvm >= 0 && ioctl(kvm, KVM_CHECK_EXTENSION_NR, KVM_CAP_ARM_MTE_NR) == 1,
		       "kvm_has_mte_capability", "KVM_CAP_ARM_MTE is not 1");
	return failures;
}
