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
 * 6. memory without PROT_MTE: both requests are refused
 */
#define _GNU_SOURCE

#include <signal.h>
#include <sys/prctl.h>
#include <asm/ptrace.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#include "mte_page_tags.h"
#include "mte_race_window.h"

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
	/* The tracer's part; true if all is as it should be */
	bool (*tracer)(pid_t tracee, struct area *a);
	/* Were there stale tags to be seen? */
	bool wants_evidence;
};

static const char *set_up(void)
{
	grow_hugetlb_pool(HUGETLB_PAGES);
	return NULL;
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

static bool peek_all(pid_t tracee, const struct area *a, unsigned char *tags)
{
	long n = transfer(PTRACE_PEEKMTETAGS, tracee, a, 0, tags, a->granules);

	if (n == (long)a->granules)
		return true;
	ksft_print_msg("PEEK of %zu tags gives %ld\n", a->granules, n);
	return false;
}

/* PEEK must read what the area is to contain */
static bool peek_is_right(pid_t tracee, struct area *a)
{
	unsigned char *tags = malloc(a->granules);
	size_t i, wrong = 0;

	memset(tags, 0xff, a->granules);
	if (!peek_all(tracee, a, tags))
		return false;
	for (i = 0; i < a->granules; i++)
		wrong += tags[i] != a->tags[i];
	ksft_print_msg("PEEK: %zu of %zu tags are wrong\n", wrong, a->granules);
	return !wrong;
}

/* Set @granules random tags every @step granules */
static bool poke(pid_t tracee, struct area *a, size_t step, size_t granules)
{
	size_t i;
	long n;

	for (i = 0; i < a->granules; i += step) {
		make_random_tags(a->tags + i, granules);
		n = transfer(PTRACE_POKEMTETAGS, tracee, a, i, a->tags + i,
			     granules);
		if (n != (long)granules) {
			ksft_print_msg("POKE of %zu tags gives %ld\n", granules,
				       n);
			return false;
		}
	}
	return true;
}

static bool poke_then_peek(pid_t tracee, struct area *a)
{
	return poke(tracee, a, a->granules, a->granules) &&
	       peek_is_right(tracee, a);
}

/* One tag in a page and a half, so that pages differ */
static bool poke_some_then_peek(pid_t tracee, struct area *a)
{
	return poke(tracee, a, granules_per_page() * 3 / 2, 1) &&
	       peek_is_right(tracee, a);
}

static bool both_refused(pid_t tracee, struct area *a)
{
	unsigned char tag = 1;
	long peek = transfer(PTRACE_PEEKMTETAGS, tracee, a, 0, &tag, 1);
	long poke = transfer(PTRACE_POKEMTETAGS, tracee, a, 0, &tag, 1);

	ksft_print_msg("PEEK gives %ld, POKE %ld\n", peek, poke);
	return peek < 0 && poke < 0 && tag == 1;
}

/* The tracee; it stops when its memory is in the state wanted */
static int tracee(const struct scene *s, struct area *a)
{
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
		return 1;
	switch (s->state) {
	case UNTOUCHED:
		break;
	case WITH_TAGS:
	case WITH_TAGS_CLOSED:
		area_fill_data(a);
		area_fill_tags(a);
		if (s->state == WITH_TAGS_CLOSED && !area_protect(a, CLOSED))
			return 1;
		break;
	case NO_TAGS_CLOSED:
	case NO_PROT_MTE:
		area_fill_data(a);
		if (s->state == NO_TAGS_CLOSED && !area_protect(a, CLOSED))
			return 1;
		break;
	}
	raise(SIGSTOP);

	if (!area_protect(a, TAGGED))
		return 1;
	if (s->state == UNTOUCHED)
		return count_wrong_tags(a->mem, a->tags, a->granules) != 0;
	return !area_intact(a, "seen from inside");
}

static bool drop_privileges(void)
{
	if (!geteuid() && setresuid(NOBODY, NOBODY, NOBODY))
		return false;
	/* Otherwise nobody without privileges may trace us. */
	prctl(PR_SET_DUMPABLE, 1);
	return true;
}

/* The tracer, without privileges */
static int tracer(const struct scene *s, struct area *a)
{
	pid_t child;
	int status;
	bool ok;

	child = fork();
	if (!child)
		_exit(drop_privileges() ? tracee(s, a) : 1);
	/* What its pages are like only the privileged may see. */
	look_at_pages_of(child);
	if (!drop_privileges() || child < 0 || waitpid(child, &status, WUNTRACED) != child ||
	    !WIFSTOPPED(status))
		return 1;
	if (s->state != UNTOUCHED && !area_is_huge(a))
		return 1;
	ok = s->tracer(child, a);
	if (s->wants_evidence && !race_window_loaded())
		had_stale_tags(-1, a->mem, a->size);
	if (ptrace(PTRACE_CONT, child, NULL, NULL))
		return 1;
	return child_succeeded(child) && ok ? 0 : 1;
}

static bool test_scene(const struct test *test)
{
	const struct scene *s = test->arg;
	unsigned char *tags;
	struct area a;
	long stale;
	pid_t pid;
	bool ok;

	/* Only where it matters: it takes its time */
	if ((s->wants_evidence && !dirty_free_memory(test->backing, STALE_TAG)) ||
	    !area_map(&a, test->backing, s->wants_evidence ? 16 * PAGES : PAGES,
		      s->state == NO_TAGS_CLOSED ||
		      s->state == NO_PROT_MTE ? PLAIN : TAGGED))
		return false;
	/* Tracer and tracee have to agree on what there must be. */
	tags = mmap(NULL, a.granules, PLAIN, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tags == MAP_FAILED)
		return false;
	free(a.tags);
	a.tags = tags;

	if (s->wants_evidence && !race_window_watch("mte_clear_page_tags", 0))
		return false;
	pid = fork();
	if (!pid)
		_exit(tracer(s, &a));
	ok = child_succeeded(pid);
	stale = race_window_watched();
	/* Without the module the tracer has looked for some. */
	return ok && (!s->wants_evidence || stale < 0 || had_stale_tags(stale, NULL, 0));
}

static const char *no_ptrace(const struct test *test)
{
	/* Who is traced with its consent needs the same privileges from 2 on. */
	if (read_number("/proc/sys/kernel/yama/ptrace_scope") > 1)
		return "Yama allows no ptrace without privileges";
	return backing_missing(test->backing);
}

#define STALE	.wants_evidence = true
#define SCENE(name, in, of, what, ...) {				\
	.property = name,						\
	.run = test_scene,						\
	.missing = no_ptrace,						\
	.backing = in,							\
	.arg = &(const struct scene){ of, what, __VA_ARGS__ },		\
}

static const struct test tests[] = {
	SCENE("peek_reads_tags", ANON, WITH_TAGS, peek_is_right),
	SCENE("peek_reads_tags_of_huge_page", THP, WITH_TAGS, peek_is_right),
	SCENE("peek_reads_tags_of_shared_memory", SHARED, WITH_TAGS,
	      peek_is_right),
	SCENE("peek_reads_tags_of_hugetlb_page", HUGETLB, WITH_TAGS,
	      peek_is_right),
	SCENE("peek_reads_tags_of_inaccessible_page", ANON, WITH_TAGS_CLOSED,
	      peek_is_right),
	SCENE("peek_reads_tags_of_inaccessible_shared_memory", SHARED,
	      WITH_TAGS_CLOSED, peek_is_right),
	SCENE("peek_reads_tags_of_inaccessible_hugetlb_page", HUGETLB,
	      WITH_TAGS_CLOSED, peek_is_right),
	SCENE("poke_sets_tags", ANON, WITH_TAGS, poke_then_peek),
	SCENE("poke_sets_tags_of_huge_page", THP, WITH_TAGS, poke_then_peek),
	SCENE("poke_sets_tags_of_shared_memory", SHARED, WITH_TAGS,
	      poke_then_peek),
	SCENE("poke_sets_tags_of_hugetlb_page", HUGETLB, WITH_TAGS,
	      poke_then_peek),
	SCENE("poke_sets_tags_of_inaccessible_page", ANON, WITH_TAGS_CLOSED,
	      poke_then_peek),
	SCENE("peek_of_untouched_memory_is_zero", ANON, UNTOUCHED,
	      peek_is_right),
	SCENE("poke_of_untouched_memory_sets_tags", ANON, UNTOUCHED,
	      poke_some_then_peek),
	SCENE("peek_of_inaccessible_untagged_page_shows_no_stale_tags", ANON,
	      NO_TAGS_CLOSED, peek_is_right, STALE),
	SCENE("peek_of_inaccessible_untagged_huge_page_shows_no_stale_tags",
	      THP, NO_TAGS_CLOSED, peek_is_right, STALE),
	SCENE("peek_of_inaccessible_untagged_shared_memory_shows_no_stale_tags",
	      SHARED, NO_TAGS_CLOSED, peek_is_right, STALE),
	SCENE("peek_of_inaccessible_untagged_hugetlb_page_shows_no_stale_tags",
	      HUGETLB, NO_TAGS_CLOSED, peek_is_right, STALE),
	SCENE("poke_of_inaccessible_untagged_page_survives_mprotect", ANON,
	      NO_TAGS_CLOSED, poke_then_peek),
	SCENE("poke_of_inaccessible_untagged_huge_page_survives_mprotect", THP,
	      NO_TAGS_CLOSED, poke_then_peek),
	SCENE("poke_of_inaccessible_untagged_page_sets_no_other_tags", ANON,
	      NO_TAGS_CLOSED, poke_some_then_peek, STALE),
	SCENE("ptrace_without_prot_mte_is_refused", ANON, NO_PROT_MTE,
	      both_refused),
};

int main(void)
{
	run_tests(tests, ARRAY_SIZE(tests), set_up, NULL);
}
