# SPDX-License-Identifier: GPL-2.0
"""Faults that scripts/check/barriers --self-test plants."""
import re
from collections import Counter

from barrier_rules import (RULES, SET, TEST, TRY, check_object, find, find_looks, installs, judge,
                           unbuilt, unseen)
from disassembly import BUILD, walk

# Each instruction that orders, and what is not enough in its place.
WEAKER = [(r"dmb .*", "nop"), (r"dmb ishst", "dmb ishld"), (r"dmb (ishld|ish)", "dmb ishst"),
          (r"lda(p?)r (.*)", r"ldr \2"), (r"stlr (.*)", r"str \1"), (r"stlxr (.*)", r"stxr \1"),
          (r"(ldset|swp|cas)al (.*)", r"\1 \2"), (r"bl .*<__srcu_read_(un)?lock>", "nop")]


def other_bit(insn, old, new):
    """The test of a bit made that of another one."""
    return re.sub(rf"#({old}|{1 << old:#x})(?=,|$)",
                  lambda m: f"#{new}" if m[1] == str(old) else f"#{1 << new:#x}", insn.text)


def faults(name, insns, bits):
    """Ways to weaken a function, [(does a rule have to notice, {Insn: text})]."""
    lock, tagged = bits
    find_looks(insns, tagged)
    # skip_mte_tagged_pages() has a barrier for those as well who have looked at none.
    looked = set()
    for n, i in enumerate(insns):
        if i.look:
            looked.add(i)
            walk(insns, n, looked.add)
    for i in insns:
        # Of those in try_page_mte_tagging() only that of the wait must be of PG_mte_tagged.
        for bit, test in i.bits:
            if bit is not None and i.look:
                yield i.within(TEST) or i.look[1] != "r", {test: other_bit(test, bit, lock)}
            elif bit is not None:
                yield True, {test: other_bit(test, bit, tagged)}
        ours = (name == "mte_sync_tags" or installs(i) or i.within(SET) or i.within(TRY)
                or i.within(TEST) and i in looked)
        for pattern, text in WEAKER:
            if m := re.fullmatch(pattern, i.text):
                yield ours, {i: m.expand(text)}
        # On one side of a branch only, be it one that the kernel patches.
        if i.text.startswith("dmb") and i.within(SET):
            branch = insns[i.through[0]]
            ways = branch.through + branch.taken + i.through[1:]
            for k in ways if len(ways) > 1 else []:
                yield ours, {i: "nop", insns[k]: i.text}


def self_test(base, tmp, say):
    """Returns how many passed and failed."""
    passed = failed = 0

    def verdict(ok, name, why=""):
        nonlocal passed, failed
        passed, failed = passed + bool(ok), failed + (not ok)
        say(f"ok: {base}: {name}" if ok else f"FAIL: {base}: {name}{why and ': ' + why}")

    def bad(results):
        return {r[1].split(": ")[-1] for r in results if not r[0]}

    objects, _ = find(base, tmp)
    bits = objects[0].constants()
    noticed = Counter()
    for o in objects:
        for name, insns in o.compile().functions:
            before = {r[1] for r in judge(o, name, insns, bits) if not r[0]}
            if not (before or judge(o, name, insns, bits)):
                continue
            for ours, fault in list(faults(name, insns, bits)):
                original = {i: i.text for i in fault}
                for i, text in fault.items():
                    i.text = text
                rules = {r[1] for r in judge(o, name, insns, bits) if not r[0]} - before
                for i, text in original.items():
                    i.text = text
                noticed.update(rules)
                if ours and not rules:
                    what = ", ".join(f"{i} made '{t}'" for i, t in fault.items())
                    verdict(False, f"{o.file}: {name}: {what}", "not seen")
        # As if they had other names, or were not inlined.
        for _, insns in o.functions:
            for i in insns:
                i.chain = []
        noticed["used"] += "used" in bad(check_object(o, bits)[0])
    for rule in RULES:
        verdict(noticed[rule], f"{rule}: {noticed[rule]} faults in instructions are seen")
    verdict(noticed["used"], f"used: {noticed['used']} objects without the functions are seen")
    verdict(bad(unbuilt(["mm/none.c"])), "built: a file that is not in the kernel is seen")
    verdict(bad(unseen(set())) == set(RULES),
            "kernel: all rules that had nothing to look at are seen")

    # What the compiler makes of faults in the source.
    header = (BUILD / base / "patched/src/arch/arm64/include/asm/mte.h").read_text()
    (tmp / "header/asm").mkdir(parents=True)
    for pattern, text in ((r"\tsmp_wmb\(\);\n(\tset_bit[^;]*;\n)", r"\1\tsmp_wmb();\n"),
                          (r"smp_rmb\(\)", "barrier()"),
                          ("smp_cond_load_acquire", "smp_cond_load_relaxed")):
        header = re.sub(pattern, text, header)
    (tmp / "header/asm/mte.h").write_text(header)
    mte = next(o for o in objects if o.file == "arch/arm64/kernel/mte.c")
    got = bad(check_object(mte.compile(tmp / "header"), bits)[0])
    for rule in ("publish", "test", "wait", "same"):
        verdict(rule in got, f"{rule}: a fault in asm/mte.h is seen")
    return passed, failed
