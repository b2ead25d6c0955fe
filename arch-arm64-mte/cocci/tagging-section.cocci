// SPDX-License-Identifier: GPL-2.0-only
/// Between try_page_mte_tagging() and set_page_mte_tagged() others spin: nothing
/// there may touch user memory, sleep, or leave without publishing the tags.
//
// Confidence: Moderate
// Options: --include-headers --no-includes
// Comments: sleeping inside called functions is for CONFIG_DEBUG_ATOMIC_SLEEP.

virtual report

@user exists@
identifier try =~ "^(folio_)?try_.*mte_tagging$";
identifier done =~ "^(folio_)?set_.*mte_tagged$";
identifier bad =~ "^_*(raw_)?(copy_(from|to)_user.*|mte_copy_tags_(from|to)_user|get_user.*|put_user.*|clear_user|fault_in_.*|pin_user_.*|get_user_pages.*|access_(process|remote)_vm|access_ok)$";
position p;
@@

try(...)
... when != set_page_mte_tagged(...)
     when != folio_set_hugetlb_mte_tagged(...)
     when != try_page_mte_tagging(...)
     when != folio_try_hugetlb_mte_tagging(...)
bad@p(...)
... when != set_page_mte_tagged(...)
     when != folio_set_hugetlb_mte_tagged(...)
     when != try_page_mte_tagging(...)
     when != folio_try_hugetlb_mte_tagging(...)
done(...)

@script:python depends on report@
p << user.p;
bad << user.bad;
@@
coccilib.report.print_report(p[0], "user-access: %s() calls %s() while it initialises tags" % (p[0].current_element, bad))

@sleep exists@
identifier try =~ "^(folio_)?try_.*mte_tagging$";
identifier done =~ "^(folio_)?set_.*mte_tagged$";
identifier bad =~ "^_*(k[mzc]alloc.*|kvmalloc.*|vmalloc.*|kmem_cache_alloc.*|alloc_pages?.*|get_zeroed_page|mutex_lock.*|down(_read|_write)?(_killable|_interruptible)?|mmap_(read|write)_lock.*|lock_page.*|folio_lock.*|wait_.*|schedule.*|cond_resched.*|might_sleep.*|msleep.*|usleep.*|synchronize_.*|gfn_to_pfn.*|kvm_faultin_pfn|kvm_release_.*)$";
position p;
@@

try(...)
... when != set_page_mte_tagged(...)
     when != folio_set_hugetlb_mte_tagged(...)
     when != try_page_mte_tagging(...)
     when != folio_try_hugetlb_mte_tagging(...)
bad@p(...)
... when != set_page_mte_tagged(...)
     when != folio_set_hugetlb_mte_tagged(...)
     when != try_page_mte_tagging(...)
     when != folio_try_hugetlb_mte_tagging(...)
done(...)

@script:python depends on report@
p << sleep.p;
bad << sleep.bad;
@@
coccilib.report.print_report(p[0], "may-sleep: %s() calls %s() while it initialises tags" % (p[0].current_element, bad))

// The winner leaves the branch, and not each way through it publishes the tags.
@published@
identifier try =~ "^(folio_)?try_.*mte_tagging$";
position p;
@@

if (try@p(...)) {
	... when strict
(
	set_page_mte_tagged(...);
|
	folio_set_hugetlb_mte_tagged(...);
)
	... when any
}

@leave@
identifier try =~ "^(folio_)?try_.*mte_tagging$";
position p != published.p;
statement S;
@@

if (try@p(...))
	S

@script:python depends on report@
p << leave.p;
@@
coccilib.report.print_report(p[0], "unpublished: %s() may leave tags locked" % p[0].current_element)

// The answer is kept in a variable, and the function returns before it looks at it.
@early exists@
identifier try =~ "^(folio_)?try_.*mte_tagging$";
identifier I;
statement S;
position p;
@@

I = try(...)
... when != if (<+... I ...+>) S
     when != set_page_mte_tagged(...)
     when != folio_set_hugetlb_mte_tagged(...)
return@p ...;

@script:python depends on report@
p << early.p;
@@
coccilib.report.print_report(p[0], "unpublished: %s() may leave tags locked" % p[0].current_element)

// Whoever does not look at the answer publishes tags that others own.
@ignored@
identifier try =~ "^(folio_)?try_.*mte_tagging$";
position p;
@@

(
try@p(...);
|
WARN_ON_ONCE(!try@p(...));
)

@script:python depends on report@
p << ignored.p;
@@
coccilib.report.print_report(p[0], "ignored: %s() does not look at what try_page_mte_tagging() says" % p[0].current_element)
