# SPDX-License-Identifier: GPL-2.0
"""Faults that scripts/check/barriers --self-test plants."""
import re
from collections import Counter

from barrier_rules import (RULES, SET, TEST, TRY, check_object, find, installs, judge, look,
                           unbuilt, unseen)
from disassembly import BUILD, flow, walk

# Each instruction that orders, and what is not enough in its place.
WEAKER = [(r"dmb .*", "nop"), (r"dmb ishst", "dmb ishld"), (r"dmb (ishld|ish)", "dmb ishst"),
          (r"lda(p?)r (.*)", r"ldr \2"), (r"stlr (.*)", r"str \1"), (r"stlxr (.*)", r"stxr \1"),
          (r"(ldset|swp|cas)al (.*)", r"\1 \2"), (r"bl .*<__srcu_read_(un)?lock>", "nop")]


def faults(name, insns):
    """Ways to weaken a function, [(does a rule have to notice, {Insn: text})]."""
    flow(insns)
    # skip_mte_tagged_pages() has a barrier for those as well who have looked at none.
    looked = set()
    for n, i in enumerate(insns):
        if look(i):
            looked.add(i)
            walk(insns, n, looked.add)
    for i in insns:
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
            for ours, fault in list(faults(name, insns)):
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
