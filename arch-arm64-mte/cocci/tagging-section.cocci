// SPDX-License-Identifier: GPL-2.0-only
/// Who gets true from try_page_mte_tagging() owns the tags of the page until he calls
/// set_page_mte_tagged().  Others spin meanwhile, so nothing there may touch user
/// memory, sleep, or leave without publishing the tags; who got false must not
/// publish at all.
///
/// Code is right if it has one of the forms below, and calls nothing in between but
/// what is known to be harmless.  All else is reported, understood or not.
//
// Confidence: Moderate
// Options: --include-headers --no-includes

virtual report

// if (try) { ... set; }
@branch@
identifier try =~ "^_*(folio_)?try_[a-z_]*mte_tagging$";
identifier again =~ "^_*(folio_)?try_[a-z_]*mte_tagging$";
identifier set =~ "^_*(folio_)?set_[a-z_]*mte_tagged$";
expression page, other;
position t, s;
@@

if (try@t(page)) {
	... when strict
	    when != again(...)
	    when != page = other
	set@s(page);
	... when any
}

@script:python depends on report@
t << branch.t;
s << branch.s;
@@
for p in t + s: coccilib.report.print_report(p, "seen: %s" % p.current_element)

// own = try; ... if (own) { ... set; }
@kept@
identifier try =~ "^_*(folio_)?try_[a-z_]*mte_tagging$";
identifier again =~ "^_*(folio_)?try_[a-z_]*mte_tagging$";
identifier set =~ "^_*(folio_)?set_[a-z_]*mte_tagged$";
idexpression own;
expression page, other;
position t, s;
@@

own = try@t(page)
... when strict
    when != again(...)
    when != own = other
    when != page = other
(
if (own) {
	... when strict
	    when != page = other
	set@s(page);
	... when any
}
|
if (!WARN_ON_ONCE(!own))
	set@s(page);
)

@script:python depends on report@
t << kept.t;
s << kept.s;
@@
for p in t + s: coccilib.report.print_report(p, "seen: %s" % p.current_element)

// if (!try) return; ... set;  or the same with the answer kept
@loser_leaves@
identifier try =~ "^_*(folio_)?try_[a-z_]*mte_tagging$";
identifier again =~ "^_*(folio_)?try_[a-z_]*mte_tagging$";
identifier set =~ "^_*(folio_)?set_[a-z_]*mte_tagged$";
idexpression own;
expression page, other;
position t, s;
@@

(
if (!try@t(page)) {
	...
	\(return ...;\|continue;\)
}
|
own = try@t(page)
... when strict
    when != again(...)
    when != own = other
    when != page = other
if (!own) {
	...
	\(return ...;\|continue;\)
}
)
... when strict
    when != again(...)
    when != page = other
set@s(page);

@script:python depends on report@
t << loser_leaves.t;
s << loser_leaves.s;
@@
for p in t + s: coccilib.report.print_report(p, "seen: %s" % p.current_element)

@unpaired@
identifier word =~ "^_*(folio_)?(try_[a-z_]*mte_tagging|set_[a-z_]*mte_tagged)$";
position p != {branch.t, branch.s, kept.t, kept.s, loser_leaves.t, loser_leaves.s};
@@

word@p(...)

@script:python depends on report@
p << unpaired.p;
word << unpaired.word;
@@
coccilib.report.print_report(p[0], "unpaired: %s() calls %s() in no form that is known to be right" % (p[0].current_element, word))

@section exists@
identifier try =~ "^_*(folio_)?try_[a-z_]*mte_tagging$";
identifier again =~ "^_*(folio_)?try_[a-z_]*mte_tagging$";
identifier set =~ "^_*(folio_)?set_[a-z_]*mte_tagged$";
identifier done =~ "^_*(folio_)?set_[a-z_]*mte_tagged$";
identifier call !~ "^(_*(folio_)?(try_[a-z_]*mte_tagging|set_[a-z_]*mte_tagged)|page_address|folio_address|folio_page|folio_nr_pages|folio_test_hugetlb|mte_(clear|zero_clear|copy|get|set|save|restore)_page_tags|WARN_ON_ONCE)$";
expression page, ops;
position p;
@@

try(page)
... when != done(...)
    when != again(...)
\(call@p(...)\|ops->call@p(...)\|ops.call@p(...)\)
... when != done(...)
    when != again(...)
set(page)

@script:python depends on report@
p << section.p;
call << section.call;
@@
coccilib.report.print_report(p[0], "section: %s() calls %s() while it initialises tags" % (p[0].current_element, call))
