// SPDX-License-Identifier: GPL-2.0-only
/// Where the flags of a page are, and that hugetlb pages share those of the head, is
/// what asm/mte.h knows.  In code that handles tags, report everybody else who asks
/// whether something is hugetlb, whatever he does with the answer, and everybody who
/// tells the protocol where the flags are.
///
/// A VMA may be asked for the size of its mappings.
//
// Confidence: Moderate
// Options: --include-headers --no-includes

virtual report

@size@
expression vma, size;
position p;
statement S;
@@

(
if (<+... is_vm_hugetlb_page@p(vma) ...+>)
	return huge_page_shift(hstate_vma(vma));
|
if (is_vm_hugetlb_page@p(vma))
	size = huge_page_shift(hstate_vma(vma));
else S
)

@script:python depends on report@
p << size.p;
@@
coccilib.report.print_report(p[0], "seen: %s" % p[0].current_element)

@asks@
identifier word =~ "^([a-z_]+_hugetlb|[a-z_]*hugetlb_[a-z_]+|PageHuge|PageHeadHuge|(folio|page)_hstate|is_file_hugepages|VM_HUGETLB|__try_mte_tagging|__set_mte_tagged|mte_page_flags|skip_mte_tagged_pages)$";
position p != size.p;
@@

word@p

@script:python depends on report@
p << asks.p;
word << asks.word;
@@
coccilib.report.print_report(p[0], "hugetlb-flag: %s() names %s" % (p[0].current_element, word))
