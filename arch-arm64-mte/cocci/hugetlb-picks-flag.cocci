// SPDX-License-Identifier: GPL-2.0-only
/// Which flag stands for a hugetlb page is asm/mte.h's business.  Report who asks
/// "is this hugetlb?" to pick one, and who calls functions for hugetlb only.
//
// Confidence: Moderate
// Options: --include-headers --no-includes

virtual report

@special@
identifier f =~ "hugetlb_mte_tag";
position p;
@@

f@p(...)

@script:python depends on report@
p << special.p;
f << special.f;
@@
coccilib.report.print_report(p[0], "hugetlb-flag: %s() calls %s()" % (p[0].current_element, f))

@picks@
identifier f =~ "mte_(tagg|clear|copy|write|zero)";
identifier h =~ "^(folio_test_hugetlb|PageHuge|PageHeadHuge|is_vm_hugetlb_page)$";
position p;
statement S;
@@

(
if (<+... h@p(...) ...+>) {
	<+... f(...) ...+>
} else S
|
if (<+... h@p(...) ...+>) {
	<+... f(...) ...+>
}
|
if (<+... h@p(...) ...+>)
	f(...);
else S
|
if (<+... h@p(...) ...+>)
	f(...);
)

@script:python depends on report@
p << picks.p;
@@
coccilib.report.print_report(p[0], "hugetlb-flag: %s() asks for hugetlb to pick a flag" % p[0].current_element)
