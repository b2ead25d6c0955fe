// SPDX-License-Identifier: GPL-2.0
/*
 * mte_sysreg_test - what a guest and its VMM see of MTE beside the tags
 *
 * ONE_REG:
 *  - RGSR_EL1, GCR_EL1, TFSR_EL1 and TFSRE0_EL1 can be read and written and are
 *    in KVM_GET_REG_LIST if the VM has MTE; else they are not there at all
 *  - the guest reads what the VMM wrote, and the VMM what the guest wrote
 *  - ID_AA64PFR1_EL1.MTE is zero in a VM without MTE and not in one with it,
 *    for the guest as for the VMM. The same register's MTE_frac says in a VM with
 *    MTE that there are no asynchronous tag checks, where that is so. A value
 *    saved by a kernel that did not show it can be restored, and is ignored;
 *    other values are refused
 *
 * The guest:
 *  - without MTE these four, GMID_EL1 and cache maintenance of tags by set and
 *    way are undefined
 *  - with MTE all of that works, and GMID_EL1 holds a block size that exists
 *  - an exception that KVM injects sets PSTATE.TCO, as one taken in hardware
 *    does
 *  - what KVM itself writes to the guest's memory, as the VMM has mapped it, is
 *    no tag check fault of the guest, also if the VMM asks for such checks
 *
 * Switching: the registers of two guests with MTE keep their values while these
 * two, a guest without MTE and the VMM, which uses IRG and asynchronous tag
 * checks itself, take turns on one CPU. Once in turn, once whenever the
 * scheduler says so.
 *
 * The capability:
 *  - a vCPU that starts in AArch32 is refused in a VM with MTE
 *  - a vCPU with EL2 has no MTE registers in a VM with MTE
 *  - it is not there in protected mode. To be run with kvm-arm.mode=protected on
 *    the kernel's command line, the one before with kvm-arm.mode=nested
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <linux/kvm.h>

#include "kselftest.h"
#include "mte.h"

#define ID_AA64PFR1_EL1		ARM64_SYS_REG(3, 0, 0, 4, 1)
#define MTE_LEVEL(v)		(((v) >> 8) & 0xf)
#define MTE_FRAC_SHIFT		40
#define MTE_FRAC(v)		(((v) >> MTE_FRAC_SHIFT) & 0xf)
#define MTE_FRAC_ASYNC		0x0
#define MTE_FRAC_NO_ASYNC	0xf

#define TCO			BIT(25)

#define ESR_EC(esr)		((esr) >> 26 & 0x3f)
#define EC_UNKNOWN		0x00UL
/* FEAT_IDST: how a read of an ID register that is not there is reported */
#define EC_SYSREG		0x18UL
#define EC_DABT_SAME_EL		0x25UL

#define ROUNDS			300
/*
 * How long a guest watches its registers, and how often: at least so often, and
 * on until there were so many context switches, but not for ever
 */
#define GUEST_ROUNDS		20000
#define GUEST_CALLS		40
#define GUEST_CALLS_MAX		2000
#define SWITCHES		40

/*
 * The guest's side: accessors by encoding, as the assembler need not know the
 * names.
 */
#define READER(name, encoding)						\
static u64 read_##name(u64 a, u64 b, u64 c, u64 d)			\
{									\
	u64 value;							\
									\
	asm volatile("mrs %0, " encoding : "=r" (value));		\
	return value;							\
}

#define WRITER(name, encoding)						\
static u64 write_##name(u64 value, u64 b, u64 c, u64 d)			\
{									\
	asm volatile("msr " encoding ", %0" : : "r" (value));		\
	return 0;							\
}

READER(rgsr, "S3_0_C1_C0_5")
WRITER(rgsr, "S3_0_C1_C0_5")
READER(gcr, "S3_0_C1_C0_6")
WRITER(gcr, "S3_0_C1_C0_6")
READER(tfsr, "S3_0_C5_C6_0")
WRITER(tfsr, "S3_0_C5_C6_0")
READER(tfsre0, "S3_0_C5_C6_1")
WRITER(tfsre0, "S3_0_C5_C6_1")
READER(gmid, "S3_1_C0_C0_4")
READER(id_aa64pfr1, "S3_0_C0_C4_1")

#define NR_REGS			4

static const struct {
	const char *name;
	u64 id;
	mte_guest_function read;
	mte_guest_function write;
	/* The bits that hold something */
	u64 mask;
} regs[NR_REGS] = {
	{ "RGSR_EL1", ARM64_SYS_REG(3, 0, 1, 0, 5), read_rgsr, write_rgsr, 0xffff0f },
	{ "GCR_EL1", ARM64_SYS_REG(3, 0, 1, 0, 6), read_gcr, write_gcr, 0x1ffff },
	{ "TFSR_EL1", ARM64_SYS_REG(3, 0, 5, 6, 0), read_tfsr, write_tfsr, 0x3 },
	{ "TFSRE0_EL1", ARM64_SYS_REG(3, 0, 5, 6, 1), read_tfsre0, write_tfsre0, 0x3 },
};

#define SET_WAY(name, operands)						\
static u64 dc_##name(u64 set_way, u64 b, u64 c, u64 d)			\
{									\
	asm volatile("sys " operands ", %0" : : "r" (set_way) : "memory"); \
	return 0;							\
}

SET_WAY(igsw, "#0, c7, c6, #4")
SET_WAY(igdsw, "#0, c7, c6, #6")
SET_WAY(cgsw, "#0, c7, c10, #4")
SET_WAY(cgdsw, "#0, c7, c10, #6")
SET_WAY(cigsw, "#0, c7, c14, #4")
SET_WAY(cigdsw, "#0, c7, c14, #6")

static const struct {
	const char *name;
	mte_guest_function function;
} set_way_ops[] = {
	{ "DC IGSW", dc_igsw },
	{ "DC IGDSW", dc_igdsw },
	{ "DC CGSW", dc_cgsw },
	{ "DC CGDSW", dc_cgdsw },
	{ "DC CIGSW", dc_cigsw },
	{ "DC CIGDSW", dc_cigdsw },
};

/* A value of the bits that register @i has, different for each @seed */
static u64 value_of(unsigned int i, u64 seed)
{
	u64 x = (seed + i + 1) * 0x9e3779b97f4a7c15UL;

	return (x >> 20) & regs[i].mask;
}

/*
 * The VMM's side
 */

static u64 reg_value(struct mte_vm *m, unsigned int i)
{
	return vcpu_get_reg(m->vcpu, regs[i].id);
}

static u64 call_guest(struct mte_vm *m, mte_guest_function function, u64 arg0,
		      u64 arg1, const char *what)
{
	struct mte_stop stop = mte_guest_try(m, function, arg0, arg1, NULL);

	return mte_expect_stop(stop, 0, what) ? stop.value : ~0UL;
}

static void expect_undefined(struct mte_vm *m, mte_guest_function function,
			     const char *what)
{
	struct mte_stop stop = mte_guest_try(m, function, 0, 0, NULL);
	bool undefined = stop.why == MTE_EXCEPTION &&
			 (ESR_EC(stop.value) == EC_UNKNOWN ||
			  (function == read_gmid &&
			   ESR_EC(stop.value) == EC_SYSREG));

	mte_expect(undefined, "%s: %s, value %#lx", what,
		   stop.why == MTE_EXCEPTION ? "another exception" :
		   "not undefined", (unsigned long)stop.value);
}

static bool in_reg_list(struct mte_vm *m, u64 id)
{
	struct kvm_reg_list *list = vcpu_get_reg_list(m->vcpu);
	bool found = false;
	u64 i;

	for (i = 0; i < list->n; i++)
		found |= list->reg[i] == id;
	free(list);

	return found;
}

static void one_reg_with_mte(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create(true);
	unsigned int i;
	u64 seed;

	for (i = 0; i < NR_REGS; i++) {
		mte_expect(in_reg_list(m, regs[i].id), "%s is not in the list",
			   regs[i].name);
		for (seed = 0; seed < 8; seed++) {
			vcpu_set_reg(m->vcpu, regs[i].id, value_of(i, seed));
			mte_expect(reg_value(m, i) == value_of(i, seed),
				   "%s: read %#lx, not %#lx", regs[i].name,
				   (unsigned long)reg_value(m, i),
				   (unsigned long)value_of(i, seed));
		}
	}
}

static void one_reg_without_mte(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create(false);
	unsigned int i;
	u64 value;

	for (i = 0; i < NR_REGS; i++) {
		mte_expect(!in_reg_list(m, regs[i].id), "%s is in the list",
			   regs[i].name);
		mte_expect(__vcpu_get_reg(m->vcpu, regs[i].id, &value) && errno == ENOENT,
			   "%s: a read is not ENOENT", regs[i].name);
		mte_expect(__vcpu_set_reg(m->vcpu, regs[i].id, 0) && errno == ENOENT,
			   "%s: a write is not ENOENT", regs[i].name);
	}
}

static void one_reg_is_the_guests(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create(true);
	u64 value, seed;
	unsigned int i;

	for (seed = 0; seed < 8; seed++) {
		for (i = 0; i < NR_REGS; i++)
			vcpu_set_reg(m->vcpu, regs[i].id, value_of(i, seed));
		for (i = 0; i < NR_REGS; i++) {
			value = call_guest(m, regs[i].read, 0, 0, regs[i].name);
			mte_expect(value == value_of(i, seed),
				   "%s: the guest reads %#lx, not %#lx",
				   regs[i].name, (unsigned long)value,
				   (unsigned long)value_of(i, seed));
			call_guest(m, regs[i].write, value_of(i, ~seed), 0,
				   regs[i].name);
		}
		for (i = 0; i < NR_REGS; i++)
			mte_expect(reg_value(m, i) == value_of(i, ~seed),
				   "%s: the VMM reads %#lx, not the guest's %#lx",
				   regs[i].name, (unsigned long)reg_value(m, i),
				   (unsigned long)value_of(i, ~seed));
	}
}

/* What the VMM and the guest read is the same. */
static u64 id_register_of(struct mte_vm *m)
{
	u64 seen = call_guest(m, read_id_aa64pfr1, 0, 0, "ID_AA64PFR1_EL1");
	u64 value = vcpu_get_reg(m->vcpu, ID_AA64PFR1_EL1);

	mte_expect(MTE_LEVEL(seen) == MTE_LEVEL(value) && MTE_FRAC(seen) == MTE_FRAC(value),
		   "the guest reads %#lx, the VMM %#lx", (unsigned long)seen,
		   (unsigned long)value);

	return value;
}

static void id_register(const struct mte_case *c)
{
	u64 with = id_register_of(mte_vm_create(true));
	u64 without = id_register_of(mte_vm_create(false));

	mte_expect(MTE_LEVEL(with) >= 2, "%#lx with MTE", (unsigned long)with);
	mte_expect(!MTE_LEVEL(without), "%#lx without MTE", (unsigned long)without);
}

static void mte_frac(const struct mte_case *c)
{
	u64 with = id_register_of(mte_vm_create(true));
	u64 without = id_register_of(mte_vm_create(false));

	/* MTE3 comes with all of MTE2. */
	mte_expect(MTE_FRAC(with) == MTE_FRAC_ASYNC ||
		   (MTE_FRAC(with) == MTE_FRAC_NO_ASYNC && MTE_LEVEL(with) == 2),
		   "%#lx with MTE", (unsigned long)with);
	mte_expect(!MTE_FRAC(without), "%#lx without MTE", (unsigned long)without);
}

/* Returns 0 or -errno. */
static int init_vcpu(struct kvm_vm *vm, struct kvm_vcpu *vcpu, u32 feature)
{
	struct kvm_vcpu_init init;

	vm_ioctl(vm, KVM_ARM_PREFERRED_TARGET, &init);
	init.features[0] |= feature;

	return ioctl(vcpu->fd, KVM_ARM_VCPU_INIT, &init) ? -errno : 0;
}

/* A vCPU that has not run yet: its ID registers can be written. */
static struct kvm_vcpu *create_bare_vcpu(bool mte)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu;

	if (mte && mte_enable(vm))
		mte_die("cannot enable KVM_CAP_ARM_MTE: %s", strerror(errno));
	vcpu = __vm_vcpu_add(vm, 0);
	if (init_vcpu(vm, vcpu, 0))
		mte_die("no vCPU: %s", strerror(errno));

	return vcpu;
}

static unsigned int mte_frac_of(struct kvm_vcpu *vcpu)
{
	return MTE_FRAC(vcpu_get_reg(vcpu, ID_AA64PFR1_EL1));
}

/* Write it as a value that another kernel has saved. Returns 0 or -errno. */
static int restore_mte_frac(struct kvm_vcpu *vcpu, u64 frac)
{
	u64 value = vcpu_get_reg(vcpu, ID_AA64PFR1_EL1);

	value &= ~(0xfUL << MTE_FRAC_SHIFT);
	value |= frac << MTE_FRAC_SHIFT;

	return __vcpu_set_reg(vcpu, ID_AA64PFR1_EL1, value) ? -errno : 0;
}

/* No kernel can have saved what does not exist, or more than the hardware has. */
static void wrong_mte_frac(const struct mte_case *c)
{
	struct kvm_vcpu *vcpu = create_bare_vcpu(true);
	char what[40];
	u64 frac;

	for (frac = 1; frac < MTE_FRAC_NO_ASYNC; frac++) {
		snprintf(what, sizeof(what), "MTE_frac %lu", (unsigned long)frac);
		mte_expect_return(restore_mte_frac(vcpu, frac), -EINVAL, what);
	}
	/* Less than that cannot be emulated. */
	if (mte_frac_of(vcpu) == MTE_FRAC_ASYNC)
		mte_expect_return(restore_mte_frac(vcpu, MTE_FRAC_NO_ASYNC), -EINVAL,
				  "no asynchronous checks");
	mte_expect_return(restore_mte_frac(create_bare_vcpu(false), MTE_FRAC_NO_ASYNC),
			  -EINVAL, "without MTE");
}

static void saved_mte_frac(const struct mte_case *c)
{
	struct kvm_vcpu *vcpu = create_bare_vcpu(true);

	mte_expect_return(restore_mte_frac(vcpu, mte_frac_of(vcpu)), 0, "as it was read");
	if (mte_frac_of(vcpu) != MTE_FRAC_NO_ASYNC)
		mte_skip("this CPU has asynchronous tag checks");

	mte_expect_return(restore_mte_frac(vcpu, MTE_FRAC_ASYNC), 0, "zero");
	mte_expect(mte_frac_of(vcpu) == MTE_FRAC_NO_ASYNC,
		   "then the guest has asynchronous checks");
}

enum { REGISTERS, GMID, SET_WAY_OPS };

static void undefined_without_mte(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create(false);
	unsigned int i;

	for (i = 0; c->arg == REGISTERS && i < NR_REGS; i++) {
		expect_undefined(m, regs[i].read, regs[i].name);
		expect_undefined(m, regs[i].write, regs[i].name);
	}
	if (c->arg == GMID)
		expect_undefined(m, read_gmid, "GMID_EL1");
	for (i = 0; c->arg == SET_WAY_OPS && i < ARRAY_SIZE(set_way_ops); i++)
		expect_undefined(m, set_way_ops[i].function, set_way_ops[i].name);
}

static void gmid_with_mte(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create(true);
	u64 value = call_guest(m, read_gmid, 0, 0, "GMID_EL1");

	/* The logarithm of the words that LDGM covers: 2 to 6 exist. */
	mte_expect(value >= 2 && value <= 6, "GMID_EL1 is %#lx",
		   (unsigned long)value);
}

static void set_way_with_mte(const struct mte_case *c)
{
	struct mte_vm *m = mte_vm_create(true);
	unsigned int i;

	/* Tags must survive it, of course. */
	mte_vm_add_memory(m, MTE_ANON, MTE_PAGE);
	mte_guest_set_pattern(m, MTE_REGION_IPA, MTE_PAGE, 0x5e7a7ULL);
	for (i = 0; i < ARRAY_SIZE(set_way_ops); i++)
		call_guest(m, set_way_ops[i].function, 0, 0,
			   set_way_ops[i].name);
	mte_expect_guest_sees(m, MTE_REGION_IPA, MTE_PAGE, 0x5e7a7ULL,
			      "after maintenance by set and way");
}

static u64 do_nothing(u64 a, u64 b, u64 c, u64 d)
{
	return 0;
}

static void injected_exception(const struct mte_case *c)
{
	struct kvm_vcpu_events events = { .exception.ext_dabt_pending = 1 };
	struct mte_vm *m = mte_vm_create(true);
	u64 pstate = vcpu_get_reg(m->vcpu, ARM64_CORE_REG(regs.pstate));
	struct mte_stop stop;

	mte_expect(!(pstate & TCO), "PSTATE is %#lx before the exception",
		   (unsigned long)pstate);

	/* The vCPU can be given only one thing to do when it goes on. */
	vcpu_run_complete_io(m->vcpu);
	if (ioctl(m->vcpu->fd, KVM_SET_VCPU_EVENTS, &events))
		mte_die("cannot inject an external abort: %s", strerror(errno));
	pstate = 0;
	stop = mte_guest_try(m, do_nothing, 0, 0, &pstate);
	if (stop.why != MTE_EXCEPTION)
		mte_die_of_stop(stop, "no external abort");
	mte_expect(ESR_EC(stop.value) == EC_DABT_SAME_EL, "another exception: ESR %#lx",
		   (unsigned long)stop.value);
	mte_expect(pstate & TCO, "PSTATE is %#lx in the handler",
		   (unsigned long)pstate);
}

/*
 * Switching
 */

/*
 * The VMM may get tags of 1 only, and looks at tag checks later. What a guest
 * has in GCR_EL1 and TFSRE0_EL1 must not be seen here.
 */
static void use_mte_in_vmm(void)
{
	if (prctl(PR_SET_TAGGED_ADDR_CTRL,
		  PR_TAGGED_ADDR_ENABLE | PR_MTE_TCF_ASYNC |
		  BIT(1) << PR_MTE_TAG_SHIFT, 0, 0, 0))
		mte_die("the VMM cannot use MTE: %s", strerror(errno));
}

static unsigned int wrong_tags_in_vmm(void)
{
	register u64 tagged asm("x0");
	unsigned int i, wrong = 0;

	for (i = 0; i < 16; i++) {
		tagged = 0;
		/* IRG x0, x0 */
		asm volatile(".inst 0x9adf1000" : "+r" (tagged));
		wrong += tagged >> 56 != 1;
	}

	return wrong;
}

/*
 * KVM updates the record of stolen time whenever the vCPU is loaded. In the VMM's
 * mapping the record has a tag that KVM's pointer has not, and the VMM has
 * asynchronous checks.
 */

static u64 load(u64 addr, u64 b, u64 c, u64 d)
{
	return READ_ONCE(*(u64 *)addr);
}

static void update_of_stolen_time(const struct mte_case *c)
{
	u64 ipa = MTE_REGION_IPA, tag = 5;
	struct kvm_device_attr attr = {
		.group = KVM_ARM_VCPU_PVTIME_CTRL,
		.attr = KVM_ARM_VCPU_PVTIME_IPA,
		.addr = (uintptr_t)&ipa,
	};
	struct mte_vm *m = mte_vm_create(true);
	unsigned int round, bad = 0;
	u64 *stolen_time;
	char *mem;

	mem = kvm_mmap(2 * MTE_PAGE, PROT_READ | PROT_WRITE | PROT_MTE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1);
	if (mte_vm_add_mapping(m, mem, 2 * MTE_PAGE))
		mte_die("no memory: %s", strerror(errno));
	mte_vmm_set_pattern(mem, ipa, MTE_PAGE, tag);
	/* The second word of the record */
	stolen_time = (u64 *)((uintptr_t)mem | tag << 56) + 1;
	if (ioctl(m->vcpu->fd, KVM_SET_DEVICE_ATTR, &attr)) {
		if (errno == ENXIO)
			mte_skip("the kernel keeps no record of stolen time");
		mte_die("no record of stolen time: %s", strerror(errno));
	}

	use_mte_in_vmm();
	for (round = 0; round < 20; round++) {
		call_guest(m, write_tfsre0, 0, 0, "TFSRE0_EL1");
		call_guest(m, load, ipa + MTE_PAGE, 0, "a load");
		bad += !!reg_value(m, 3);
		bad += !!call_guest(m, read_tfsre0, 0, 0, "TFSRE0_EL1");
	}
	mte_expect(!bad, "%u of %u times TFSRE0_EL1 has a fault that the guest did not make",
		   bad, 2 * round);
	if (!READ_ONCE(*stolen_time))
		mte_run_again("evidence void: no stolen time was recorded");
}

static void set_values(struct mte_vm *m, u64 seed)
{
	unsigned int i;

	for (i = 0; i < NR_REGS; i++)
		call_guest(m, regs[i].write, value_of(i, seed), 0, regs[i].name);
}

static unsigned int count_wrong_values(struct mte_vm *m, u64 seed)
{
	unsigned int i, wrong = 0;
	u64 value;

	for (i = 0; i < NR_REGS; i++) {
		value = call_guest(m, regs[i].read, 0, 0, regs[i].name);
		wrong += value != value_of(i, seed);
	}

	return wrong;
}

static void take_turns(const struct mte_case *c)
{
	struct mte_vm *with[2] = { mte_vm_create(true), mte_vm_create(true) };
	struct mte_vm *without = mte_vm_create(false);
	unsigned int round, wrong = 0, wrong_in_vmm = 0;

	use_mte_in_vmm();
	for (round = 0; round < ROUNDS; round++) {
		/* One CPU for a while, then the other one, if there are two */
		if (round % 64 == 0)
			bind_to_cpu(0, round / 64 % 2);

		set_values(with[round % 2], round);
		call_guest(without, do_nothing, 0, 0, "VM without MTE");
		wrong_in_vmm += wrong_tags_in_vmm();
		if (round)
			wrong += count_wrong_values(with[!(round % 2)],
						    round - 1);
		if (round % 16 == 0)
			expect_undefined(without, regs[round / 16 % 4].read,
					 "VM without MTE");
		wrong += count_wrong_values(with[round % 2], round);
	}

	mte_expect(!wrong, "%u register values lost in %u rounds", wrong, ROUNDS);
	mte_expect(!wrong_in_vmm, "the VMM got %u tags that it excludes",
		   wrong_in_vmm);
}

/* The guest sets its registers once and never sees another value in them. */
static u64 watch_registers(u64 seed, u64 rounds, u64 c, u64 d)
{
	/* value_of() reads a table, which the guest has a copy of. */
	u64 want[NR_REGS], wrong = 0, round;
	unsigned int i;

	for (i = 0; i < NR_REGS; i++)
		want[i] = value_of(i, seed);
	write_rgsr(want[0], 0, 0, 0);
	write_gcr(want[1], 0, 0, 0);
	write_tfsr(want[2], 0, 0, 0);
	write_tfsre0(want[3], 0, 0, 0);

	for (round = 0; round < rounds; round++) {
		wrong += read_rgsr(0, 0, 0, 0) != want[0];
		wrong += read_gcr(0, 0, 0, 0) != want[1];
		wrong += read_tfsr(0, 0, 0, 0) != want[2];
		wrong += read_tfsre0(0, 0, 0, 0) != want[3];
	}

	return wrong;
}

static u64 spin(u64 a, u64 rounds, u64 c, u64 d)
{
	while (rounds--)
		asm volatile("");

	return 0;
}

struct runner {
	pthread_t thread;
	struct mte_vm *m;
	mte_guest_function function;
	u64 seed;
	u64 wrong;
	/* Of all runners */
	long *switches;
};

static long count_switches(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);

	return usage.ru_nivcsw + usage.ru_nvcsw;
}

static void *runner_main(void *arg)
{
	struct runner *r = arg;
	long before, all = 0;
	unsigned int i;

	bind_to_cpu(0, 0);
	if (!r->m)
		use_mte_in_vmm();
	for (i = 0; i < GUEST_CALLS ||
	     (all < SWITCHES && i < GUEST_CALLS_MAX); i++) {
		before = count_switches();
		if (r->m)
			r->wrong += call_guest(r->m, r->function, r->seed + i,
					       GUEST_ROUNDS, "threads");
		else
			r->wrong += wrong_tags_in_vmm();
		all = __atomic_add_fetch(r->switches, count_switches() - before,
					 __ATOMIC_RELAXED);
	}

	return NULL;
}

static void switch_by_scheduler(const struct mte_case *c)
{
	struct runner runners[] = {
		{ .m = mte_vm_create(true), .function = watch_registers,
		  .seed = 1000 },
		{ .m = mte_vm_create(true), .function = watch_registers,
		  .seed = 2000 },
		{ .m = mte_vm_create(false), .function = spin },
		{ .m = NULL },
	};
	long switches = 0;
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(runners); i++)
		runners[i].switches = &switches;
	for (i = 0; i < ARRAY_SIZE(runners); i++)
		kvm_pthread_create(&runners[i].thread, NULL, runner_main, &runners[i]);
	for (i = 0; i < ARRAY_SIZE(runners); i++) {
		pthread_join(runners[i].thread, NULL);
		mte_expect(!runners[i].wrong, "thread %u saw %lu wrong values",
			   i, (unsigned long)runners[i].wrong);
	}
	ksft_print_msg("%ld context switches\n", switches);
	if (switches < SWITCHES)
		mte_run_again("evidence void: the vCPUs were hardly switched");
}

/* A vCPU that KVM could make, and that has to be refused in a VM with MTE */
static void aarch32_refused(const struct mte_case *c)
{
	const u32 aarch32 = BIT(KVM_ARM_VCPU_EL1_32BIT);
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu;

	if (kvm_check_cap(KVM_CAP_ARM_EL1_32BIT) <= 0)
		mte_skip("this CPU has no AArch32 at EL1");

	if (mte_enable(vm))
		mte_die("cannot enable KVM_CAP_ARM_MTE: %s", strerror(errno));
	vcpu = __vm_vcpu_add(vm, 0);
	mte_expect_return(init_vcpu(vm, vcpu, aarch32), -EINVAL, "in a VM with MTE");
	/* It is not spoilt. */
	mte_expect_return(init_vcpu(vm, vcpu, 0), 0, "without that feature afterwards");

	vm = vm_create_barebones();
	mte_expect_return(init_vcpu(vm, __vm_vcpu_add(vm, 0), aarch32), 0,
			  "in a VM without MTE");
}

/* MTE is not virtualised for guest hypervisors: nothing of the vCPU may say that it is */
static void vcpu_with_el2(const struct mte_case *c)
{
	struct kvm_vm *vm = vm_create_barebones();
	struct kvm_vcpu *vcpu;
	unsigned int i;
	u64 value;

	if (kvm_check_cap(KVM_CAP_ARM_EL2) <= 0)
		mte_skip("no vCPU can have EL2");

	if (mte_enable(vm))
		mte_die("cannot enable KVM_CAP_ARM_MTE: %s", strerror(errno));
	vcpu = __vm_vcpu_add(vm, 0);
	mte_expect_return(init_vcpu(vm, vcpu, BIT(KVM_ARM_VCPU_HAS_EL2)), 0,
			  "in a VM with MTE");
	value = vcpu_get_reg(vcpu, ID_AA64PFR1_EL1);
	mte_expect(!MTE_LEVEL(value), "ID_AA64PFR1_EL1 is %#lx", (unsigned long)value);
	for (i = 0; i < NR_REGS; i++)
		mte_expect(__vcpu_get_reg(vcpu, regs[i].id, &value) && errno == ENOENT,
			   "%s can be read", regs[i].name);
}

static void protected_mode(const struct mte_case *c)
{
	struct kvm_arm_copy_mte_tags args = { .length = 0 };
	struct kvm_vm *vm = vm_create_barebones();

	if (!mte_kvm_is_protected())
		mte_skip("KVM is not in protected mode");

	mte_expect(kvm_check_cap(KVM_CAP_ARM_MTE) <= 0, "KVM has the capability");
	mte_expect(__vm_ioctl(vm, KVM_CHECK_EXTENSION, (void *)KVM_CAP_ARM_MTE) <= 0,
		   "a VM has the capability");
	mte_expect_return(mte_enable(vm), -EINVAL, "enabling it");
	mte_expect(__vm_ioctl(vm, KVM_ARM_MTE_COPY_TAGS, &args) == -1,
		   "KVM_ARM_MTE_COPY_TAGS works");
}

static const struct mte_case cases[] = {
	{ "one_reg_reaches_mte_registers_with_mte", one_reg_with_mte, MTE_ON_OWN },
	{ "one_reg_has_no_mte_registers_without_mte", one_reg_without_mte, MTE_ON_OWN },
	{ "one_reg_shows_the_guests_values", one_reg_is_the_guests, MTE_ON_OWN },
	{ "id_register_follows_the_capability", id_register, MTE_ON_OWN },
	{ "mte_frac_follows_the_capability", mte_frac, MTE_ON_OWN },
	{ "mte_frac_that_cannot_be_is_refused", wrong_mte_frac, MTE_ON_OWN },
	{ "mte_frac_saved_as_zero_can_be_restored", saved_mte_frac, MTE_ON_OWN },
	{ "registers_are_undefined_without_mte", undefined_without_mte, MTE_ON_OWN, REGISTERS },
	{ "gmid_is_undefined_without_mte", undefined_without_mte, MTE_ON_OWN, GMID },
	{ "gmid_is_readable_with_mte", gmid_with_mte, MTE_ON_OWN },
	{ "set_way_ops_on_tags_are_undefined_without_mte",
	  undefined_without_mte, MTE_ON_OWN, SET_WAY_OPS },
	{ "set_way_ops_on_tags_work_with_mte", set_way_with_mte, MTE_ON_OWN },
	{ "injected_exception_sets_tco", injected_exception, MTE_ON_OWN },
	{ "update_of_stolen_time_is_no_tag_check_fault_of_the_guest",
	  update_of_stolen_time, MTE_ON_OWN },
	{ "registers_survive_vcpus_taking_turns", take_turns, MTE_ON_OWN },
	{ "registers_survive_switches_by_the_scheduler", switch_by_scheduler, MTE_ON_OWN },
	{ "aarch32_vcpu_is_refused_with_mte", aarch32_refused, MTE_ON_OWN },
	{ "vcpu_with_el2_has_no_mte_registers", vcpu_with_el2, MTE_ON_OWN },
	{ "capability_is_refused_in_protected_mode", protected_mode, MTE_ON_PROTECTED },
};

int main(void)
{
	mte_run_cases(cases, ARRAY_SIZE(cases));
}
