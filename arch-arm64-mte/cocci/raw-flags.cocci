// SPDX-License-Identifier: GPL-2.0-only
/// PG_mte_tagged, PG_mte_lock and the bits behind them are only meaningful together
/// with the barriers in asm/mte.h.  Report every other place that names them.
///
/// The bits may be shown, by kpf_copy_bit() in /proc/kpageflags.  Other architectures
/// have uses of their own for PG_arch_2 and PG_arch_3.
//
// Confidence: High
// Options: --include-headers --no-includes

virtual report

@shown@
identifier bit =~ "^PG_arch_[23]$";
position p;
@@

kpf_copy_bit(..., bit@p)

@script:python depends on report@
p << shown.p;
@@
coccilib.report.print_report(p[0], "seen: %s" % p[0].current_element)

@raw@
identifier word =~ "^(PG_mte_tagged|PG_mte_lock|PG_arch_[23])$";
position p != shown.p;
@@

word@p

@script:python depends on report@
p << raw.p;
@@
coccilib.report.print_report(p[0], "raw-flags: %s names an MTE page flag" % p[0].current_element)
