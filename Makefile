# SPDX-License-Identifier: GPL-2.0
# Each target calls programs of scripts/, which have --help.
#
# BASE=5.10|6.1|6.12|7.3  GROUP=name  FORMAT=debian|suse|stable  OUT=dir  TEST=glob  V=1
# VANILLA=1  PAGES=16K|64K  CHECKS=1  NVHE=1  KSRC=dir  SECONDS=n  SEED=n  STEPS=list

BASE ?= 6.1
VARIANT = $(if $(filter-out 0,$(VANILLA)),vanilla,patched)
export V TEST REUSE KSRC PAGES CHECKS NVHE APPEND MACHINE CPU TIMEOUT VMS QEMU BUSYBOX BUILD JOBS
export IMAGE DEB MODULES CONFIG EXPECT
# A variable of the shell's own
unexport SECONDS

.NOTPARALLEL:
.PHONY: run compare bench vng vmm probe bundle stress image tree refresh litmus static mutate \
	bisect mbox export dist watch shell qemu test test-all clean help setup

run: image	## (default) build BASE with its series, boot it, run all tests
	@scripts/run-tests $(BASE) $(VARIANT)

compare: setup	## run the tests on vanilla and patched kernel, print one table
	@$(MAKE) -s image BASE=$(BASE) VANILLA=1
	@$(MAKE) -s image BASE=$(BASE) VANILLA=
	@scripts/compare $(BASE)

bench: setup	## count instructions on vanilla and patched kernel, print one table
	@scripts/fetch $(BASE)
	@scripts/apply $(BASE)
	@BENCH=1 scripts/build $(BASE) vanilla
	@BENCH=1 scripts/build $(BASE) patched
	@scripts/bench $(BASE)

vng: setup	## run the tests with virtme-ng instead
	@scripts/setup --vng
	@scripts/fetch $(BASE)
	@scripts/apply $(if $(filter vanilla,$(VARIANT)),--if-any) $(BASE)
	@VNG=1 scripts/build $(BASE) $(VARIANT)
	@scripts/build-tests $(BASE)
	@scripts/vng $(BASE) $(VARIANT)

vmm: image	## Debian's QEMU runs guests with MTE in the test VM
	@scripts/setup --vng
	@scripts/vmm $(BASE) $(VARIANT)

probe: setup	## which known bugs has a kernel not built here? IMAGE=path or DEB=package
	@BASE=$(BASE) scripts/probe

bundle: setup	## one tar for a machine with MTE: tests, runner, judge
	@scripts/bundle

stress: image	## random operations on tagged memory for SECONDS, from SEED
	@scripts/stress $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) \
		$(if $(STEPS),--steps $(STEPS)) $(BASE) $(VARIANT)

image: setup	## build kernel and initramfs only
	@scripts/fetch $(BASE)
	@scripts/apply $(if $(filter vanilla,$(VARIANT)),--if-any) $(BASE)
	@scripts/build $(BASE) $(VARIANT)
	@scripts/build-tests $(BASE)
	@scripts/image $(BASE) $(VARIANT)

tree: setup	## a git tree with the series as commits, to hack on
	@scripts/fetch $(BASE)
	@scripts/apply --keep $(BASE)
	@echo $(or $(BUILD),build)/$(BASE)/patched/src

refresh:	## write the commits of that tree back to patches/BASE
	@scripts/refresh $(BASE)

litmus: setup	## prove the order of tags, flag and PTEs with herd7
	@scripts/litmus

static: image	## all static checks of the patches, the tree and the kernel
	@scripts/setup --all
	@scripts/check/patches $(BASE)
	@scripts/check/static --all $(BASE)
	@scripts/cocci $(BASE) patched
	@scripts/check/barriers $(BASE)

mutate: image	## wrong lines planted in the series: do the tests notice? ONLY=glob SAMPLE=n
	@scripts/mutate $(if $(ONLY),--only '$(ONLY)') $(if $(SAMPLE),--sample $(SAMPLE)) $(BASE)

bisect: image	## build the kernel and run a smoke test after every patch
	@scripts/bisect $(BASE)

mbox: tree	## the series, or its GROUP, as one mbox for b4 or git am
	@scripts/mbox $(BASE) $(GROUP)

export:		## patches as FORMAT=debian|suse|stable has them, in OUT
	@scripts/export $(BASE) $(FORMAT) $(OUT)

dist: tree	## a tarball of the series in all its forms
	@scripts/dist $(BASE)

watch:		## does the series apply to the newest packages, or to KSRC?
	@scripts/watch $(if $(filter command line environment,$(origin BASE)),$(BASE))

shell: image	## a shell in the test VM
	@scripts/boot --shell $(BASE) $(VARIANT)

qemu:		## print the QEMU command of the test VM
	@scripts/qemu --command

test:		## every check of this repository that CI runs
	@scripts/test-repository

test-all:	## the same, and all that takes longer
	@scripts/test-repository --all

setup:		## install the tools that are missing (Debian, root)
	@scripts/setup

clean:		## remove what was built; downloads stay in the cache
	rm -rf $(or $(BUILD),build)

help:		## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20
