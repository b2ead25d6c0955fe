// SPDX-License-Identifier: GPL-2.0
/*
 * check_ptrace_tags - allocation tags of another process, by ptrace
 *
 * PTRACE_PEEKMTETAGS and PTRACE_POKEMTETAGS reach memory that the tracee itself
 * cannot access at this time. A page that was used without PROT_MTE and then
 * became PROT_NONE with PROT_MTE has no valid tags yet, although its mapping
 * says that it may have some.
 *
 * Tracer and tracee run without privileges.
 *
 * Scenarios, for memory of each kind:
 *
 * 1. the tracee sets tags; PEEK reads them, also after mprotect(PROT_NONE)
 * 2. POKE replaces them, the tracee sees the new ones, also after
 *    mprotect(PROT_NONE) and back
 * 3. memory that the tracee has never touched: PEEK reads zeros; what POKE
 *    sets is there, and only that
 * 4. memory without valid tags, as above: PEEK reads zeros, whatever its page
 *    frames were used for before
 * 5. the same; what POKE sets on it is read by PEEK, is still there when the
 *    tracee makes its memory accessible, and all other tags are zero
 * 6. memory without PROT_MTE: both requests fail with EIO
 */
#define _GNU_SOURCE

#include <errno.h>
#include <sys/prctl.h>
#include <asm/ptrace.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "mte_page_tags.h"

#define PAGES		16
#define STALE_TAG	0xb
#define NOBODY		65534
#define HUGETLB_PAGES	4

/* What the tracee does to its memory before the tracer looks at it */
enum memory_state {
	UNTOUCHED,		/* PROT_MTE, never accessed */
	WITH_TAGS,		/* random tags */
	WITH_TAGS_CLOSED,	/* random tags, then PROT_NONE */
	NO_TAGS_CLOSED,		/* used without PROT_MTE, then PROT_NONE with it */
	NO_PROT_MTE,
};

struct scene {
	enum memory_state state;
	/* The tracer's part */
	void (*tracer)(pid_t tracee, struct area *a);
	/* Were there stale tags to be seen? */
	bool wants_evidence;
};

static void set_up(void)
{
	grow_hugetlb_pools(HUGETLB_PAGES);
}

/* How many tags from @from granules on were transferred, or -errno */
static long transfer(long request, pid_t tracee, const struct area *a,
		     size_t from, unsigned char *tags, size_t granules)
{
	struct iovec iov = { tags, granules };

	if (ptrace(request, tracee, a->mem + from * GRANULE, &iov))
		return -errno;
	return iov.iov_len;
}

/* PEEK must read what the area is to contain */
static void peek(pid_t tracee, struct area *a)
{
	unsigned char *tags = malloc(a->granules);
	size_t i, wrong = 0;
	long n;

	memset(tags, 0xff, a->granules);
	n = transfer(PTRACE_PEEKMTETAGS, tracee, a, 0, tags, a->granules);
	expect(n == (long)a->granules, "PEEK of %zu tags gives %ld", a->granules, n);
	for (i = 0; i < a->granules; i++)
		wrong += tags[i] != a->tags[i];
	expect(!wrong, "PEEK: %zu of %zu tags are wrong", wrong, a->granules);
}

/* Set @granules random tags every @step granules */
static void poke(pid_t tracee, struct area *a, size_t step, size_t granules)
{
	size_t i;
	long n;

	for (i = 0; i < a->granules; i += step) {
		make_random_tags(a->tags + i, granules);
		n = transfer(PTRACE_POKEMTETAGS, tracee, a, i, a->tags + i, granules);
		expect(n == (long)granules, "POKE of %zu tags gives %ld", granules, n);
	}
}

static void poke_then_peek(pid_t tracee, struct area *a)
{
	poke(tracee, a, a->granules, a->granules);
	peek(tracee, a);
}

/* One tag in a page and a half, so that pages differ */
static void poke_some_then_peek(pid_t tracee, struct area *a)
{
	poke(tracee, a, granules_per_page() * 3 / 2, 1);
	peek(tracee, a);
}

static void both_refused(pid_t tracee, struct area *a)
{
	unsigned char tag = 1;
	long peek = transfer(PTRACE_PEEKMTETAGS, tracee, a, 0, &tag, 1);
	long poke = transfer(PTRACE_POKEMTETAGS, tracee, a, 0, &tag, 1);

	expect(peek == -EIO && poke == -EIO && tag == 1,
	       "PEEK gives %ld, POKE %ld, not %d", peek, poke, -EIO);
}

/* The tracee; it stops when its memory is in the state wanted */
static void tracee(const struct scene *s, struct area *a)
{
	size_t wrong;

	must(!ptrace(PTRACE_TRACEME, 0, NULL, NULL), "PTRACE_TRACEME");
	if (s->state != UNTOUCHED)
		area_fill_data(a);
	if (s->state == WITH_TAGS || s->state == WITH_TAGS_CLOSED)
		area_fill_tags(a);
	if (s->state == WITH_TAGS_CLOSED || s->state == NO_TAGS_CLOSED)
		area_protect(a, CLOSED);
	raise(SIGSTOP);

	area_protect(a, TAGGED);
	if (s->state != UNTOUCHED)
		area_expect_intact(a, "seen from inside");
	wrong = count_wrong_tags(a->mem, a->tags, a->granules);
	expect(!wrong, "seen from inside: %zu tags are wrong", wrong);
}

static void drop_privileges(void)
{
	if (!geteuid())
		must(!setresuid(NOBODY, NOBODY, NOBODY), "setresuid");
	/* Otherwise a process without privileges may not trace this one. */
	prctl(PR_SET_DUMPABLE, 1);
}

/* The tracer, without privileges */
static void tracer(const struct scene *s, struct area *a)
{
	pid_t child = start_child();
	int status;

	if (!child) {
		drop_privileges();
		tracee(s, a);
		_exit(0);
	}
	/* What its pages are like only the privileged may see. */
	look_at_pages_of(child);
	drop_privileges();
	must(waitpid(child, &status, WUNTRACED) == child, "waitpid");
	if (!WIFSTOPPED(status))
		_exit(WIFEXITED(status) ? WEXITSTATUS(status) : KSFT_FAIL);
	if (s->state != UNTOUCHED)
		area_must_be_huge(a);
	s->tracer(child, a);
	if (s->wants_evidence)
		need_dirty_frames(a->mem, a->size);
	must(!ptrace(PTRACE_CONT, child, NULL, NULL), "PTRACE_CONT");
	wait_for(child);
}

static void test_scene(const struct test *test)
{
	const struct scene *s = test->arg;
	struct area a;
	bool watch;
	pid_t child;

	/* Who is traced with its consent needs the same privileges from 2 on. */
	if (read_number("/proc/sys/kernel/yama/ptrace_scope") > 1)
		skip("Yama allows no ptrace without privileges");
	/* Only where it matters: it takes its time */
	if (s->wants_evidence)
		dirty_free_memory(test->backing, STALE_TAG);
	area_map(&a, test->backing, s->wants_evidence ? 16 * PAGES : PAGES,
		 s->state == NO_TAGS_CLOSED || s->state == NO_PROT_MTE ? PLAIN : TAGGED);

	/* The tags are cleared when the tracee makes its memory accessible, or before. */
	watch = s->wants_evidence && race_window_loaded();
	if (watch)
		begin_evidence(0);
	child = start_child();
	if (!child) {
		tracer(s, &a);
		_exit(0);
	}
	wait_for(child);
	if (watch)
		end_evidence(NULL, 0);
}

#define STALE	.wants_evidence = true
#define SCENE(name, on, ...)	\
	{ name, test_scene, on, &(const struct scene){ __VA_ARGS__ } }

static const struct test tests[] = {
	SCENE("peek_reads_tags", ON_ALL, WITH_TAGS, peek),
	SCENE("peek_reads_tags_of_inaccessible_page", ON_ALL, WITH_TAGS_CLOSED, peek),
	SCENE("poke_sets_tags", ON_ALL, WITH_TAGS, poke_then_peek),
	SCENE("poke_sets_tags_of_inaccessible_page", ON(ANON), WITH_TAGS_CLOSED,
	      poke_then_peek),
	SCENE("peek_of_untouched_memory_is_zero", ON(ANON), UNTOUCHED, peek),
	SCENE("poke_of_untouched_memory_sets_tags", ON(ANON), UNTOUCHED,
	      poke_some_then_peek),
	SCENE("peek_of_inaccessible_untagged_page_shows_no_stale_tags", ON_ALL,
	      NO_TAGS_CLOSED, peek, STALE),
	SCENE("poke_of_inaccessible_untagged_page_survives_mprotect",
	      ON(ANON) | ON(THP), NO_TAGS_CLOSED, poke_then_peek),
	SCENE("poke_of_inaccessible_untagged_page_sets_no_other_tags", ON(ANON),
	      NO_TAGS_CLOSED, poke_some_then_peek, STALE),
	SCENE("ptrace_without_prot_mte_is_refused", ON(ANON), NO_PROT_MTE, both_refused),
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, NULL);
}
