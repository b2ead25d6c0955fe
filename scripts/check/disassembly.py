# SPDX-License-Identifier: GPL-2.0
"""The machine code of a built kernel, for scripts/check/barriers.

An Object is compiled once more with the command that Kbuild recorded and -g.  Each
instruction then knows the functions that it was inlined from, and the instructions
that may come after it: those included that are there only after the kernel has
patched itself.
"""
import os
import re
import shlex
import subprocess
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("BUILD") or TOP / "build").resolve()
CROSS = os.environ.get("CROSS_COMPILE") or "aarch64-linux-gnu-"
# Registers that survive a call
PRESERVED = {str(n) for n in range(19, 29)}


RELOCATION = re.compile(
    r"^([0-9a-f]+)\s+[0-9a-f]+\s+R_\S+\s+[0-9a-f]+\s+(\S+) \+ ([0-9a-f]+)$")
# Does not write its first operand
NO_WRITE = re.compile(r"^(st(?!l?xr)|b$|b\.|bl|cb|tb|cmp|cmn|ccmp|tst|dmb|nop|prfm|hint|ret)")
# Writes its first two
TWO_WRITES = re.compile(r"^(ld[ax]*p|ldset|ldclr|ldadd|ldeor|swp)")


class Bad(Exception):
    """What has to be said before giving up."""


class Insn:
    """An instruction; chain has the functions it was inlined from, inner first."""

    __slots__ = ("addr", "text", "target", "chain", "line", "follow", "instead", "jump",
                 "through", "taken", "leaves", "look", "bits")

    def __init__(self, addr, text, target):
        self.addr, self.text, self.target = addr, text, target
        self.chain, self.line = [], 0
        # What comes after it, may come in its place, or may be jumped to, for
        # the kernel patches itself.
        self.follow, self.instead, self.jump = addr + 4, None, None
        # What the rules found out
        self.look, self.bits = None, frozenset()

    def within(self, pattern):
        return any(pattern.match(name) for name in self.chain)

    def is_in(self, pattern):
        return bool(self.chain) and bool(pattern.match(self.chain[0]))

    def calls(self, pattern):
        return re.match(rf"bl? .*<{pattern}(\+|>)", self.text)

    def __str__(self):
        return f"'{self.text}' at {self.addr:#x}"


def run(*args, **kwargs):
    return subprocess.run(args, check=True, capture_output=True, text=True, **kwargs).stdout


def listing(path):
    """The raw code of an object, without debug information."""
    out = run(CROSS + "objdump", "-d", "--no-show-raw-insn", str(path))
    return re.sub(r"^.*file format.*$", "", out, flags=re.M)


def load(path):
    """Functions of an object, as [(name, [Insn])], with the inlined ones in each."""
    functions, insns, index, section = [], None, {}, None
    for line in run(CROSS + "objdump", "-dr", "--no-show-raw-insn", str(path)).splitlines():
        if m := re.match(r"^Disassembly of section (.+):$", line):
            section = m[1]
        elif m := re.match(r"^([0-9a-f]+) <(.+)>:$", line):
            insns = []
            functions.append((m[2], insns))
        elif m := re.match(r"^\s+[0-9a-f]+: R_AARCH64_(CALL|JUMP|CONDBR)\S*\s+(\S+)", line):
            # The linker knows where this goes.
            insns[-1].text = re.sub(r"[0-9a-f]+ <.*>", f"<{m[2]}>", insns[-1].text)
            insns[-1].target = None
        elif (m := re.match(r"^\s+([0-9a-f]+):\s+(\S.*)$", line)) and "R_AARCH64" not in line:
            text = re.sub(r"\s+", " ", re.sub(r"\s*//.*", "", m[2])).strip()
            t = re.search(r"\b([0-9a-f]+) <", text)
            insns.append(Insn(int(m[1], 16), text, int(t[1], 16) if t else None))
            index[section, insns[-1].addr] = insns[-1], insns
    attribute(path, index)
    patch(path, index)
    return functions


def attribute(path, index):
    for section in {s for s, _ in index}:
        feed = "".join(f"{a:#x}\n" for s, a in index if s == section)
        out = run(CROSS + "addr2line", "-afi", "-j", section, "-e", str(path),
                  input=feed).splitlines()
        insn, n = None, 0
        while n < len(out):
            if out[n].startswith("0x"):
                insn, n = index[section, int(out[n], 16)][0], n + 1
                insn.line = int((re.findall(r":(\d+)", out[n + 1]) or [0])[0])
            else:
                # Clones of a function have a suffix.
                insn.chain.append(out[n].split(".")[0])
                n += 2


def patch(path, index):
    """Find out where the kernel patches itself when it boots, or a static key
    is switched: what is there in the object, and what may be there, are both
    ways that the program can go."""
    relocations, table = {}, None
    for line in run(CROSS + "readelf", "-rW", str(path)).splitlines():
        if m := re.match(r"^Relocation section '\.rela(\S+)'", line):
            table = relocations.setdefault(m[1], {})
        elif m := RELOCATION.match(line):
            table[int(m[1], 16)] = m[2], int(m[3], 16)
    entries = relocations.get("__jump_table", {})
    for offset in range(0, max(entries, default=-1) + 1, 16):
        if code := index.get(entries[offset]):
            # -1 is out of sight, in another section.
            near = entries[offset][0] == entries[offset + 4][0]
            code[0].jump = entries[offset + 4][1] if near else -1
    entries = relocations.get(".altinstructions", {})
    if not entries:
        return
    dump = run(CROSS + "objdump", "-s", "-j", ".altinstructions", str(path))
    data = re.findall(r"^ [0-9a-f]+ ((?:[0-9a-f]+ ){1,4})", dump, flags=re.M)
    data = bytes.fromhex("".join(data))
    for offset in range(0, len(data), 12):
        (section, old), new = entries[offset], entries[offset + 4]
        if (section, old) not in index:
            continue
        insn, owner = index[section, old]
        length, after = data[offset + 11], old + data[offset + 10]
        # A function, which puts nops or other arithmetic there, has no length.
        insn.instead = new[1] if length else after
        if length and new[0] != section:
            raise Bad(f"{path}: the replacement of {old:#x} is in {new[0]}")
        for address in range(new[1], new[1] + length, 4):
            # These stand behind the last function.
            moved, last = index[new[0], address]
            last.remove(moved)
            owner.append(moved)
            moved.follow = address + 4 if address + 4 < new[1] + length else after


def flow(insns):
    """Link each instruction to those that may follow it."""
    at = {i.addr: n for n, i in enumerate(insns)}

    def ways(address):
        n = at.get(address)
        if n is None:
            return []
        instead = insns[n].instead
        return [n] + (ways(instead) if instead is not None else [])

    for i in insns:
        op = i.text.split()[0]
        returns = op in ("ret", "retaa", "retab", "br", "eret")
        goes = op == "b" or op.startswith(("b.", "cb", "tb"))
        i.through = ways(i.follow) if not returns and (op != "b" or i.jump is not None) else []
        i.taken = ways(i.target if goes else i.jump)
        i.leaves = returns or not i.taken and (goes or i.jump is not None)


def previous(insns):
    before = [[] for _ in insns]
    for n, i in enumerate(insns):
        for k in i.through + i.taken:
            before[k].append(n)
    return before


def register(word):
    """x7 and w7 are one."""
    m = re.match(r"^[wx](\d+|zr)$", word.strip(",[]!"))
    return m[1] if m else None


def survive(words, regs):
    """The registers that an instruction leaves as they are."""
    op, first = words[0], register(words[1]) if len(words) > 1 else None
    if op in ("bl", "blr"):
        return frozenset(r for r in regs if r in PRESERVED)
    if first is None or NO_WRITE.match(op):
        return regs
    return regs - ({first, register(words[2])} if TWO_WRITES.match(op) else {first})


def single_bit(words):
    """The bit that an instruction tests in its source, or cuts out of it: its number,
    or None if it does neither; and the register."""
    op, last = words[0], words[-1]
    if op in ("tbz", "tbnz"):
        return int(words[2][1:], 0), register(words[1])
    if op in ("tst", "and", "ands") and last.startswith("#"):
        mask = int(last[1:], 0)
        source = register(words[1 if op == "tst" else 2])
        return mask.bit_length() - 1 if mask and not mask & (mask - 1) else None, source
    if op == "ubfx" and words[4] == "#1":
        return int(words[3][1:], 0), register(words[2])
    return None, None


def bits_tested(insns, n, held):
    """What becomes of the word that instruction n loads into the register held: each
    (number of a bit, instruction that tests it); the number is None where more of
    the word than one bit is used."""
    start = frozenset({held})
    todo = [(k, start) for k in insns[n].through + insns[n].taken]
    done, uses = set(todo), set()
    while todo:
        k, holds = todo.pop()
        words = insns[k].text.replace(",", " ").split()
        bit, source = single_bit(words)
        plain = NO_WRITE.match(words[0]) or TWO_WRITES.match(words[0])
        read = {register(w) for w in words[1 if plain else 2:]} & holds
        holds = survive(words, holds)
        if words[0] == "mov" and read:
            holds |= {register(words[1])}
        elif read:
            uses.add((bit if source in read else None, insns[k]))
        for step in ((s, holds) for s in insns[k].through + insns[k].taken):
            if holds and step not in done:
                done.add(step)
                todo.append(step)
    return uses


def successors(i, state, bit, value):
    """Where the program may go from an instruction when the bit has the value.

    state: the registers that hold the flags word, those that are zero if the
    bit is, and whether the condition flags say that as well (a tst of the bit).
    Returns [instruction], state.
    """
    holds, derived, tested = state
    words = i.text.replace(",", " ").split()
    op, first = words[0], register(words[1]) if len(words) > 1 else None
    if m := re.match(r"^tb(n?)z$", op):
        if first in holds and words[2] == f"#{bit}":
            return (i.taken if bool(m[1]) == value else i.through), state
    elif m := re.match(r"^cb(n?)z$", op):
        if first in derived:
            return (i.taken if bool(m[1]) == value else i.through), state
    elif op in ("b.eq", "b.ne"):
        if tested:
            return (i.taken if (op == "b.ne") == value else i.through), state
    elif op in ("tst", "ands"):
        source = first if op == "tst" else register(words[2])
        tested = source in holds and words[-1] == f"#{1 << bit:#x}"
    elif op in ("cmp", "cmn", "ccmp", "adds", "subs", "bics"):
        tested = False
    elif op in ("bl", "blr"):
        tested = False
    copied = masked = set()
    if first is not None and not NO_WRITE.match(op):
        source = register(words[2]) if len(words) > 2 else None
        masked = source in holds and (op == "ubfx" and words[3:] == [f"#{bit}", "#1"] or
                                      op in ("and", "ands") and words[-1] == f"#{1 << bit:#x}")
        copied = {first} if op == "mov" and source in holds else set()
        masked = {first} if masked or op == "mov" and source in derived else set()
    holds, derived = survive(words, holds) | copied, survive(words, derived) | masked
    return i.through + i.taken, (holds, derived, tested)


def walk(insns, n, visit, held=None, bit=None, value=True, nonzero=()):
    """Follow the program from instruction n, which has put the flags word into
    the register held, on the ways where the bit has that value.  visit() gets
    each instruction; True ends a way, a text is the complaint to return."""
    start = (frozenset({held} - {None}), frozenset(nonzero), False)
    todo = [(k, start) for k in insns[n].through + insns[n].taken]
    done = set(todo)
    while todo:
        k, state = todo.pop()
        verdict = visit(insns[k])
        if verdict is True:
            continue
        if verdict:
            return verdict
        following, state = successors(insns[k], state, bit, value)
        for step in ((s, state) for s in following):
            if step not in done:
                done.add(step)
                todo.append(step)
    return None


def backward(insns, before, n, visit):
    """What is not right on a way from the start of the function to n; visit() as
    in walk().  A way from nowhere is not understood, so it is not right."""
    todo, done = [n], {n}
    while todo:
        k = todo.pop()
        if k == 0:
            return "the start of the function"
        if not before[k]:
            return f"{insns[k]}, to which nothing leads"
        for p in before[k]:
            if p in done:
                continue
            done.add(p)
            verdict = visit(insns[p])
            if verdict is True:
                continue
            if verdict:
                return verdict
            todo.append(p)
    return None


class Object:
    """An object of the kernel, compiled again with debug information."""

    def __init__(self, base, file, tmp):
        self.obj, self.tmp = BUILD / base / "patched/obj", tmp
        self.file, self.name = file, Path(file).with_suffix(".o")
        self.source = (BUILD / base / "patched/src" / file).read_text()
        text = (self.obj / self.name.parent / f".{self.name.name}.cmd").read_text().splitlines()[0]
        text = text.split(":=", 1)[1].split(" ; ")[0].replace("$(pound)", "#")
        self.argv = [a for a in shlex.split(text) if a != "ccache" and not a.startswith("-Wp,-MMD")]

    def compile(self, header=None):
        out = self.tmp / ("x" + self.name.name)
        argv = list(self.argv)
        argv[argv.index("-o") + 1] = str(out)
        argv[1:1] = [f"-I{header}"] if header else []
        argv[1:1] = ["-g"] if "clang" in argv[0] else ["-g", "-gno-column-info"]
        subprocess.run(argv, cwd=self.obj, check=True, capture_output=True, text=True)
        self.same = listing(out) == listing(self.obj / self.name)
        self.functions = load(out)
        return self

    def constants(self):
        """The numbers of the two bits, from the header itself."""
        probe = self.tmp / "probe.c"
        probe.write_text("#include <linux/page-flags.h>\n#include <asm/mte.h>\n"
                         "const int mte_bits[2] = { PG_mte_lock, PG_mte_tagged };\n")
        argv = list(self.argv)
        argv[argv.index("-o") + 1] = str(self.tmp / "probe.s")
        argv[argv.index("-c")] = "-S"
        argv[-1] = str(probe)
        subprocess.run(argv, cwd=self.obj, check=True, capture_output=True, text=True)
        words = re.search(r"mte_bits:\n((?:\s+\.word\s+\d+\n)+)",
                          (self.tmp / "probe.s").read_text())
        return [int(w) for w in re.findall(r"\d+", words[1])]
