# SPDX-License-Identifier: GPL-2.0
"""The rules of scripts/check/barriers, which describes them."""
import re
import subprocess

from disassembly import (BUILD, Bad, Object, backward, bits_tested, flow, previous, register,
                         walk)

SET = re.compile(r"(__)?set_(page_)?mte_tagged$")
TEST = re.compile(r"(page_mte_tagged|skip_mte_tagged_pages)$")
TRY = re.compile(r"(__)?try_(page_)?mte_tagging$")
LOCK = re.compile(r"\w*test_and_set_bit\w*$")
# Those that load the flags word themselves.
LOOKS = re.compile(rf"\w*test_bit\w*$|{TEST.pattern}|{TRY.pattern}")
# Those that store a valid entry of a stage 2 table: one that maps a page, and the rest.
LEAF = re.compile(r"(kvm_set_valid_leaf_pte|stage2_map_walker_try_leaf|stage2_make_pte)$")
INSTALL = re.compile(rf"{LEAF.pattern}|kvm_set_table_pte$")
PGTABLE = "arch/arm64/kvm/hyp/pgtable.c"

# Code that calls this must have something for the rule to look at.
CALLS = {"publish": r"\bset_page_mte_tagged\(",
         "test": r"\bpage_mte_tagged\(",
         "wait": r"\btry_page_mte_tagging\("}
# The others are looked at in one place of the kernel.
RULES = (*CALLS, "order", "pte", "dirty", "stage2")
# KVM's writers of tags; all but the first have callers that hold SRCU.
WRITERS = r"(mte_write_page_tags|kvm_(copy|write)_mte_tags|kvm_mte_access_memslot)"
NOT_BUILT = {"arch/arm64/kernel/elfcore.c", "arch/arm64/kernel/hibernate.c",
             "arch/arm64/mm/mteswap.c"}

FULL = re.compile(r"dmb (ish|sy|osh)$")
WMB = re.compile(r"dmb (ishst|ish|sy|st|osh|oshst)$")
RMB = re.compile(r"dmb (ishld|ish|sy|ld|osh|oshld)$")
ATOMIC = re.compile(r"ldset|stset|stl?xr|cas|swp")
LOAD = re.compile(r"ld(r|ar|apr) ([wx]\d+), \[((?!sp\b)[^]]+)\]")
MEMORY = re.compile(r"(ld|st|dc |cas|swp|bl |blr )")
PRESERVED = {str(n) for n in range(19, 29)}
TAG_WRITE = re.compile(r"(stg|stzg|st2g|stgm|stzgm|dc +gz?va|bl |blr )")


def find_looks(insns, tagged):
    """Link the instructions, and mark those that load the flags to look at PG_mte_tagged.

    try_page_mte_tagging() looks at other bits, too, which order nothing.  A load that is
    not understood counts.
    """
    flow(insns)
    for n, i in enumerate(insns):
        m = (i.within(TEST) or i.within(TRY)) and i.is_in(LOOKS) and LOAD.match(i.text)
        i.bits = frozenset(bits_tested(insns, n, register(m[2]))) if m else frozenset()
        numbers = {bit for bit, _ in i.bits}
        i.look = m if m and (i.within(TEST) or not numbers or numbers & {tagged, None}) else None


def touches(insn):
    """Does it touch memory, or leave the function?  Its stack frame is its own."""
    return MEMORY.match(insn.text) and "[sp" not in insn.text or insn.leaves


def installs(insn):
    """Is it of what makes a valid entry of stage 2, not of the hypervisor's own table?"""
    return insn.is_in(INSTALL) and not any(f.startswith("hyp_") for f in insn.chain)


def check_function(name, insns, bits, source):
    """[(passed, rule, complaint)]; source: the lines of the file."""
    lock, tagged = bits
    results = []
    find_looks(insns, tagged)
    before = previous(insns)

    def report(bad, rule, text):
        results.append((not bad, rule, f"{text} {bad}"))

    def publish(n):
        def visit(i):
            return bool(WMB.match(i.text)) or TAG_WRITE.match(i.text) and str(i)

        report(backward(insns, before, n, visit), "publish",
               f"{insns[n]} sets the flag, and there is no DMB ISHST between it and")

    def unordered(n):
        """What the program gets to without a barrier after it saw the flag set."""
        load = LOAD.match(insns[n].text)
        # The address may have been copied before, to be there later.
        copies = {load[3]}
        for i in insns:
            if m := re.match(r"mov (x\d+), (x\d+)$", i.text):
                copies.update({m[1]: {m[2]}, m[2]: {m[1]}}.get(load[3], ()))

        def visit(i):
            again = i.look
            # An acquire orders nothing but itself.  But if it looks at the same
            # flags it sees the flag as well, and what comes after is after it.
            if RMB.match(i.text) or again and again[1] != "r" and again[3] in copies:
                return True
            return None if again else touches(i) and str(i)

        return None if load[1] != "r" else walk(insns, n, visit, register(load[2]), tagged)

    def wait(n, held):
        """From where PG_mte_lock was found set."""
        waits = []

        def visit(i):
            if i.is_in(TRY) and i.look:
                waits.append(i)
                return True
            # The store-exclusive failed: once more.
            if i.within(LOCK) and i.text.startswith("ldxr "):
                return True
            return (i.leaves or i.look or touches(i) and not i.within(TRY)) and str(i)

        bad = walk(insns, n, visit, held, lock)
        done = set()
        while waits and not bad:
            i = waits.pop()
            if i not in done:
                done.add(i)
                k = insns.index(i)
                bad = unordered(k) or walk(insns, k, visit, register(LOAD.match(i.text)[2]),
                                           tagged, False)
        report(bad or not done and "nowhere", "wait",
               f"from {insns[n]} there is a way without a load-acquire that saw the flag to")

    def order(n):
        i = insns[n]
        if i.text.startswith("st"):
            def visit(k):
                again = k.text.startswith("ldxr ") and k.within(LOCK)
                return bool(FULL.match(k.text)) or again or touches(k) and str(k)

            bad = walk(insns, n, visit)
            if not bad and not i.text.startswith("stlxr"):
                bad = "anything, since it is no release"
        else:
            bad = not re.match(r"(ldset|swp|cas)al ", i.text) and "anything"
        report(bad, "order", f"{i} takes the lock and is not ordered against")

    def pte():
        def visit(i):
            return bool(WMB.match(i.text) and not i.within(SET)) or i.leaves and f"leaves by {i}"

        for n, i in enumerate(insns):
            if i.look or i.within(SET) and ATOMIC.match(i.text) or i.calls(r"mte_\w+_tags"):
                report(walk(insns, n, visit), "pte", f"after {i} and without a DMB ISHST it")

    def dirty(n):
        marks = r"(kvm_vcpu_)?mark_page_dirty(_in_slot)?"

        def marked(i):
            return bool(WMB.match(i.text) or i.calls(WRITERS)) or i.calls(marks) and str(i)

        def locked(i):
            return bool(i.calls("__srcu_read_lock")) or i.calls("__srcu_read_unlock") and str(i)

        def unlocked(i):
            return bool(i.calls("__srcu_read_unlock")) or i.leaves and str(i)

        if any(i.calls(marks) for i in insns):
            report(walk(insns, n, marked), "dirty",
                   f"without a DMB ISHST after {insns[n]} has written tags, their page is marked "
                   "dirty by")
        else:
            # guard() does not unlock NULL, but that is not what was locked.
            srcu = {register(p.text.split()[2]) for p, i in zip(insns, insns[1:])
                    if i.calls("__srcu_read_lock") and p.text.startswith("mov x0, x")}
            bad = backward(insns, before, n, locked) or walk(insns, n, unlocked, nonzero=srcu)
            report(bad, "dirty",
                   f"{insns[n]} writes tags, which are not logged, outside of an SRCU section "
                   "that has an end on the way to")

    for n, i in enumerate(insns):
        text = i.text
        if i.within(SET) and ATOMIC.match(text):
            publish(n)
        if i.look and not i.is_in(TRY):
            others = {bit for bit, _ in i.bits} - {tagged, None}
            if i.within(TEST) and others:
                report(sorted(others), "test", f"{i} is to look at bit {tagged}, and looks at")
            report(unordered(n), "test",
                   f"{i} looks at the flag, and there is no DMB ISHLD between it and")
        if i.within(TRY) and i.within(LOCK):
            if re.match(r"ldset|swp|cas", text):
                order(n)
                wait(n, register(text.split()[2]))
            elif re.match(r"stl?xr ", text):
                order(n)
                wait(n, next((register(x.text.split()[1]) for x in reversed(insns[:n])
                              if x.text.startswith("ldxr ")), None))
            elif i.is_in(LOCK) and (m := LOAD.match(text)):
                # 5.10 looks before it tries.
                wait(n, register(m[2]))
        if i.calls(WRITERS) and not re.match(rf"(__)?{WRITERS}$", name):
            dirty(n)
        if installs(i) and re.match(r"st(?!l?xr)(?!.*\[sp)", text) and "ptep" in source[i.line - 1]:
            bad = not text.startswith("stlr ") and "no release"
            report(bad, "stage2" if i.is_in(LEAF) else "stage2 table",
                   f"{i} stores a valid entry with")
    if name == "mte_sync_tags":
        pte()
    return results


def judge(o, name, insns, bits):
    """check_function() for a function of an Object"""
    return check_function(name, insns, bits, o.source.splitlines())


def check_object(o, bits):
    """[(passed, name, complaint)], and the rules that had something to look at."""
    results = [(o.same, f"{o.file}: object: same",
                "compiled again it is not what is in the kernel")]
    seen = set()
    for name, insns in o.functions:
        for ok, rule, text in judge(o, name, insns, bits):
            results.append((ok, f"{o.file}: {name}: {rule}", text))
            seen.add(rule)
    code = re.sub(r"/\*.*?\*/", "", o.source, flags=re.S)
    for rule, call in CALLS.items():
        if re.search(call, code):
            results.append((rule in seen, f"{o.file}: object: used",
                            f"it calls what {rule} looks at, but no code was found"))
    return results, seen


def find(base, tmp):
    """The objects to look at, and the source files that have none."""
    src, obj = BUILD / base / "patched/src", BUILD / base / "patched/obj"
    if not (obj / "vmlinux").exists():
        raise Bad(f"there is no kernel at {obj}; run make image BASE={base}")
    hits = {PGTABLE}
    for pattern, where in (("|".join(CALLS.values()), "arch/arm64/*.c mm/*.c fs/*.c virt/*.c"),
                           (rf"\b{WRITERS}\(", "arch/arm64/kvm/*.c")):
        found = subprocess.run(["git", "-C", str(src), "grep", "-lE", pattern, "--",
                                *where.split()], capture_output=True, text=True, check=False)
        hits.update(found.stdout.split())
    built = sorted(f for f in hits if (obj / f).with_suffix(".o").exists())
    return [Object(base, f, tmp) for f in built], sorted(hits - set(built))


def unbuilt(files):
    return [(f in NOT_BUILT, f"{f}: object: built", "is not part of this kernel") for f in files]


def unseen(seen):
    return [(rule in seen, f"kernel: all objects: {rule}", "was not seen at all") for rule in RULES]
