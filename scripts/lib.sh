# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034 # callers use what is set here
# What the scripts in this directory and in check/ share.  Source it first:
#
#	. "$(dirname "$0")/lib.sh"
#
# It moves to the top of the repository, prints the script's header comment
# for --help, and sets
#	TOP	the repository
#	BUILD	where everything is made (build/, or $BUILD)
#	CACHE	downloads, base trees and ccache, kept across checkouts
#	JOBS	parallel make jobs
# Exit codes: 0 fine, 1 something failed, 2 the caller's mistake.

set -euo pipefail

# A make above must not talk through the makes below.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES MAKELEVEL
self=${0##*/}
case $0 in */check/*) self=check/$self ;; esac
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
BUILD=$(realpath -m "${BUILD:-$TOP/build}")
CACHE=${MTE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mte-page-tags}
JOBS=${JOBS:-$(($(nproc) + 1))}
CFG=$TOP/series.cfg

# Paths are the caller's.
for arg in KSRC BUSYBOX QEMU; do
	case $arg=${!arg:-} in
	QEMU=*/* | KSRC=?* | BUSYBOX=?*) export "$arg=$(realpath -m "${!arg}")" ;;
	esac
done
path_of() { realpath -m "$(case $1 in /*) ;; *) echo "$CALLER/" ;; esac)$1"; }
CALLER=$PWD
cd "$TOP"

say() { printf '%s: %s\n' "$self" "$*" >&2; }
die() { say "error: $*"; exit 1; }
usage_error() { say "error: $*; see scripts/$self --help"; exit 2; }

# "No" can be said, too.
for arg in V VANILLA CHECKS NVHE BENCH VNG REUSE; do
	if [ "${!arg:-}" = 0 ]; then unset "$arg"; fi
done
for arg in JOBS VMS SMP TIMEOUT BUDGET; do
	case ${!arg:-0} in *[!0-9]*) die "$arg=${!arg} is no number" ;; esac
done

# need_value OPTION [VALUE]
need_value() { [ $# -ge 2 ] || usage_error "$1 wants a value"; }

# The comment at the top of a script is its manual.
for arg in "$@"; do
	[ "$arg" = -- ] && break
	if [ "$arg" = --help ] || [ "$arg" = -h ]; then
		sed -n '/^# SPDX/d; 2,/^[^#]/s/^# \{0,1\}//p' "$0"
		exit 0
	fi
done

bases() {
	git config -f "$CFG" --get-regexp '^base\..*\.package$' |
		sed 's/^base\.\(.*\)\.package .*/\1/'
}

# cfg BASE KEY: all values of a key, one a line; nothing where it is not set.  What is
# expected of a base (bug, skip, goal) is in scripts/expect/BASE.
cfg() {
	git config -f "$CFG" --get-all "base.$1.$2" || true
	if [ -e "$TOP/scripts/expect/$1" ]; then
		git config -f "$TOP/scripts/expect/$1" --get-all "base.$1.$2" || true
	fi
}

need_base() {
	local b
	b=$(bases | tr '\n' ' ')
	[ -n "${1:-}" ] || usage_error "no base given; one of: $b"
	case " $b" in
	*" $1 "*) ;;
	*) usage_error "unknown base '$1'; series.cfg knows: $b" ;;
	esac
}

need_variant() {
	case ${1:-} in
	vanilla | patched) ;;
	*) usage_error "variant '${1:-}' is neither vanilla nor patched" ;;
	esac
}

has_series() { [ -e "$TOP/patches/$1/series" ]; }

# series BASE: the patch files in order.
series() { sed 's/#.*//; /^[[:space:]]*$/d' "$TOP/patches/$1/series"; }

# sender name|email BASE: who the first patch of a series is from
sender() {
	git mailinfo /dev/null /dev/null <"$TOP/patches/$2/$(series "$2" | sed -n 1p)" |
		sed -n "s/^$([ "$1" = name ] && echo Author || echo Email): //p"
}

# cover FILE: a cover letter as the description of a branch, its subject first
cover() {
	awk 'body { print; next }
		/^$/ { body = 1; print subject; print; next }
		/^[ \t]/ { if (on) { sub(/^[ \t]+/, " "); subject = subject $0 } next }
		{ on = sub(/^Subject: *(\[[^]]*\] *)?/, ""); if (on) subject = $0 }' "$1"
}

# note_below PATCH-FILE: what is below its "---", scripts/notes.py has the form.
note_below() { awk 'p && /^( [^ ].* \| |diff )/ { exit } p { print } /^---$/ { p = 1 }' "$1"; }

# groups_of BASE: the group of each patch, a line each ("# Group: NAME - text" in series)
groups_of() {
	awk '/^# Group: / { g = $3; next }
		{ sub(/#.*/, "") }
		NF { print g == "" ? "-" : g }' "$TOP/patches/$1/series"
}

# series_id BASE COMMIT: names what the series makes of that base commit.
series_id() {
	{
		echo "$2"
		series "$1" | (cd "$TOP/patches/$1" && xargs cat)
	} | hash_of
}

# run_logged FILE CMD...: output goes to FILE, or to the terminal with V=1.
run_logged() {
	local log=$1
	shift
	mkdir -p "$(dirname "$log")"
	if [ "${V:-0}" = 1 ]; then
		"$@" 2>&1 | tee "$log" >&2
	else
		"$@" >"$log" 2>&1
	fi
}

# lock NAME: a second run waits until this script has ended.  What it calls
# has the lock, too.
lock() {
	local file=$BUILD/$1.lock fd
	case ":${MTE_LOCKS:-}:" in *":$file:"*) return ;; esac
	mkdir -p "$(dirname "$file")"
	exec {fd}>"$file"
	flock -n "$fd" || {
		say "waiting for another run that uses $BUILD/$1"
		flock "$fd"
	}
	export MTE_LOCKS=${MTE_LOCKS:-}:$file
}

# print_command WORD...: so that it can be pasted into a shell
print_command() {
	printf '+%s\n' "$(for word in "$@"; do
		if [[ ! $word =~ ^[A-Za-z0-9_./,:=+-]+$ ]]; then word="'$word'"; fi
		printf ' %s' "$word"
	done)" >&2
}

# Stamps hold the hash of what a step was made from, never a time.
hash_of() { sha256sum | cut -c1-16; }
stamp_ok() { [ -e "$1" ] && [ "$(cat "$1")" = "$2" ]; }
stamp_set() { printf '%s\n' "$2" >"$1"; }

# tree_id DIR: names the content of a git work tree, edits included.
tree_id() {
	{
		git -C "$1" rev-parse 'HEAD^{tree}'
		git -C "$1" diff HEAD
		git -C "$1" ls-files -o --exclude-standard -z | (cd "$1" && xargs -0r sha256sum)
	} | hash_of
}

free_gb() {
	local d=$1
	while [ ! -e "$d" ]; do d=$(dirname "$d"); done
	df -Pk "$d" | awk 'NR == 2 { print int($4 / 1048576) }'
}

# need_space GB: a base takes about 6 with both trees and kernels, and 2 more for each check
# that has a tree of its own.
need_space() {
	local want=${MIN_FREE_GB:-$1} have
	have=$(free_gb "$BUILD")
	[ "$have" -ge "$want" ] || die "only $have GB free for $BUILD, $want GB are needed;" \
		"free some space or set BUILD=dir"
}

# tally PASSED FAILED SKIPPED: adds to the sum that `make test` prints.
tally() {
	if [ -n "${MTE_TALLY:-}" ]; then printf '%s %s %s\n' "$1" "$2" "$3" >>"$MTE_TALLY"; fi
}

# verdict RC NAME [WHY]: one check of a program of check/; verdicts ends it.
passed=0 failed=0 skipped=0
verdict() {
	if [ "$1" = 0 ]; then
		passed=$((passed + 1))
		say "ok: $2"
	else
		failed=$((failed + 1))
		say "FAIL: $2${3:+: $3}"
	fi
}
verdicts() {
	tally "$passed" "$failed" "$skipped"
	say "$passed passed, $failed failed, $skipped skipped"
	[ $((passed + failed)) != 0 ] || die "nothing was checked"
	[ "$failed" = 0 ]
}

# expect NAME REGEX CMD...: the command fails, and says so in a line that matches.  Wants a
# directory $tmp.
expect() {
	local name=$1 regex=$2 rc=0
	shift 2
	"$@" >"$tmp/out" 2>&1 </dev/null && rc=1
	grep -qE "$regex" "$tmp/out" || rc=1
	verdict "$rc" "$name" "$(tail -n 3 "$tmp/out" | tr '\n' ' ')"
}
not() { if "$@"; then return 1; fi; }

# Builds of one tree in another directory must hit the same cache entries.
kernel_env() {
	export ARCH=arm64 CCACHE_DIR="$CACHE/ccache" CCACHE_MAXSIZE=8G \
		CCACHE_BASEDIR="$1" CCACHE_NOHASHDIR=1 CCACHE_COMPILERCHECK=content \
		KBUILD_BUILD_TIMESTAMP='1970-01-01' KBUILD_BUILD_USER=mte KBUILD_BUILD_HOST=mte
	CROSS=${CROSS_COMPILE:-aarch64-linux-gnu-}
}

# What a patch file looks like must not depend on the user's git configuration.
export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
export GIT_COMMITTER_NAME=series GIT_COMMITTER_EMAIL=series GIT_COMMITTER_DATE='@0 +0000'
export GIT_AUTHOR_NAME=series GIT_AUTHOR_EMAIL=series GIT_AUTHOR_DATE='@0 +0000'

# kernel_of BASE: sets $kernel, the suffix of what belongs to another kernel than the
# usual one: VNG=1, PAGES=16K|64K, CHECKS=1, CHECKS=hwtags, and NVHE=1 on a base that cannot
# choose when it boots.
kernel_of() {
	local pages=''
	case ${PAGES:-4K} in
	4K) ;;
	16K | 64K) pages=-${PAGES,,} ;;
	*) die "PAGES=$PAGES is none of 4K, 16K and 64K" ;;
	esac
	case ${CHECKS:-} in
	'') kernel='' ;;
	1) kernel=-checks ;;
	hwtags) kernel=-hwtags ;;
	*) die "CHECKS=$CHECKS is neither 1 nor hwtags" ;;
	esac
	kernel=${VNG:+-vng}$pages$kernel
	if [ -n "${NVHE:-}" ] && [ "$(cfg "$1" nvhe)" = config ]; then kernel=$kernel-nvhe; fi
}

# special_vm BASE PROGRAM: what scripts/boot gives a program that wants a VM of its own
special_vm() {
	case ${2#*:} in
	check_hibernation_tags) echo --hibernate ;;
	check_live_update_tags) echo --live-update ;;
	mte_dax_test) [ -n "$(cfg "$1" nodax)" ] || echo --dax ;;
	esac
}

# own BASE PROGRAM: is it the tree's own, not the series'?
own() {
	case " $(cfg "$1" kvmtests) " in *"/${2#*:} "*) return 0 ;; esac
	[ "${2%%:*}" = arm64 ] && git -C "$BUILD/$1/vanilla/src" cat-file -e \
		"HEAD:tools/testing/selftests/arm64/mte/${2#*:}.c" 2>/dev/null
}

# left_out BASE PROGRAM: is it one of series.cfg (slow) that runs only if TEST asks for it?
left_out() { [ -z "${TEST:-}" ] && cfg "$1" slow | tr ' ' '\n' | grep -xF -e "${2#*:}" >/dev/null; }

# overlay BASE AREA: "file in this repository, its place in the kernel tree",
# a line each, for the folders whose new files a series adds; overlays: of all areas.
overlay() {
	local base=$1 area=$2 dir file sub tree=tools/testing/selftests
	dir=$(cfg "$base" kvmdir)
	case $area in
	arch-arm64-mte)
		tree=$tree/arm64/mte
		for file in "$area"/selftests/*; do
			echo "$file $tree/${file##*/}"
		done
		;;
	tools-testing-selftests-kvm)
		tree=$tree/kvm
		for sub in include lib; do
			for file in "$area/$sub"/*; do
				echo "$file $tree/$sub/$dir/${file##*/}"
			done
		done
		for file in "$area"/*.c; do
			echo "$file $tree/$dir/${file##*/}"
		done
		;;
	*) die "no overlay is known as '$area'" ;;
	esac
	# What only this base needs; a file of several bases is a link to that of the oldest
	if [ -d "$area/backport/$base" ]; then
		find -L "$area/backport/$base" -type f | sort |
			sed "s|.*/backport/$base/\(.*\)|& $tree/\1|"
	fi
}
overlays() {
	local area
	for area in arch-arm64-mte tools-testing-selftests-kvm; do overlay "$1" "$area"; done
}

# spare_tree BASE: a clone of the patched tree, with its branches base and series,
# for programs that check out one patch after the other.  Sets $spare, a build
# directory of its own, and leaves the tree in $spare/BASE/patched/src.
spare_tree() {
	local tree=$BUILD/$1/patched/src src shared
	git -C "$tree" rev-parse -q --verify series >/dev/null ||
		die "no tree at $tree; run make tree BASE=$1 first"
	lock "spare/$1"
	spare=$BUILD/spare
	src=$spare/$1/patched/src
	mkdir -p "$spare/$1/patched"
	for shared in apt apt-arm64 qemu tools; do
		if [ -e "$BUILD/$shared" ]; then ln -sfn "$BUILD/$shared" "$spare/$shared"; fi
	done
	ln -sfn "$BUILD/$1/vanilla" "$spare/$1/vanilla"
	# They may be built anew meanwhile.
	rm -rf "$spare/$1/kselftest" "$spare/$1/kselftest.stamp"
	(
		lock "$1"
		if [ -d "$BUILD/$1/kselftest" ]; then
			cp -rl "$BUILD/$1/kselftest" "$spare/$1/kselftest"
		fi
		if [ -e "$BUILD/$1/kselftest.stamp" ]; then
			cp "$BUILD/$1/kselftest.stamp" "$spare/$1/kselftest.stamp"
		fi
	)
	# Its objects are those of the tree, which may have been made anew since.
	if [ ! -e "$src/.git/complete" ] || ! git -C "$src" rev-parse -q --verify 'HEAD^{commit}' \
		>/dev/null 2>&1; then
		rm -rf "$src"
		git clone -q --shared "$tree" "$src"
		cat "$tree/.git/objects/info/alternates" >>"$src/.git/objects/info/alternates"
		git -C "$src" config gc.auto 0
		touch "$src/.git/complete"
	fi
	git -C "$src" checkout -q -f --detach
	git -C "$src" fetch -q -f "$tree" base:base series:series
}
