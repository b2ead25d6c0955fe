#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Plant mutants in a kernel tree, many at once; a kernel parameter picks one.

usage: scripts/mutants.py TREE FROM TO BASE [NUMBER...]

What the C code of TREE has by the commits FROM..TO is changed by rule, one place a mutant:

	not	a condition of if is negated
	drop	a call for its effect, or an assignment with |=, &=, += or -=, is left out
	errno	another error is returned
	bool	the opposite is returned
	edge	a loop ends one step too early

and by hand, as scripts/expect/mutants has it (file, text, text instead).  The kernel does
what it did unless it is booted with mte_mutant=NUMBER.  Prints "NUMBER ID FILE", a line each;
an ID is function:rule:n, the nth such mutant of that function.  With numbers, only those
are planted, and files without any stay as they are; without, none is, but all are printed.

Not changed: assembly, the code of the nVHE hypervisor (it does not see the parameter),
what takes or releases a lock (everything hangs), and what only warns.
"""
import re
import subprocess
import sys
from pathlib import Path

sys.dont_write_bytecode = True
TOP = Path(__file__).resolve().parent.parent
SKIP = re.compile(r"/hyp/|\.S$|page-flags\.h$|/uapi/|/abi/")
NEVER = re.compile(
    r"^(\w*unlock\w*|\w*[^y]_lock|\w*WARN\w*|BUILD_BUG\w*|VM_\w*|preempt_\w+|EXPORT_\w+|"
    r"DEFINE_\w+|module_\w+|lockdep_\w+|might_sleep\w*|cond_resched|kfree|kvfree|pr_\w+|"
    r"va_end|guard|scoped_\w+|return|sizeof|asm|TEST_\w+|CLASS|kunmap_local|"
    r"__\w*attribute\w*)$")
HEADER = """
#ifndef MTE_MUTANT
#define MTE_MUTANT(n) (mte_mutant == (n))
#define MTE_UNLESS(n, ...) do { if (!MTE_MUTANT(n)) { __VA_ARGS__; } } while (0)
#ifndef __ASSEMBLER__
extern int mte_mutant;
#endif
#endif
"""
OWNER = "arch/arm64/kernel/mte.c"
DEFINITION = """
#include <linux/moduleparam.h>
extern int mte_mutant;
int mte_mutant __read_mostly;
EXPORT_SYMBOL_GPL(mte_mutant);
core_param(mte_mutant, mte_mutant, int, 0444);
"""


def git(tree, *args):
    return subprocess.run(["git", "-C", tree, *args], check=True, capture_output=True,
                          text=True).stdout


def added(tree, old, new):
    """{file: numbers of the lines} that the commits have added"""
    lines, name = {}, None
    for line in git(tree, "diff", "-U0", "--no-prefix", old, new, "--", "*.c", "*.h",
                    ":!tools", ":!Documentation").splitlines():
        if line.startswith("+++ "):
            name = line[4:]
        elif match := re.match(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@", line):
            first, count = int(match[1]), int(match[2] or 1)
            lines.setdefault(name, set()).update(range(first, first + count))
    return {name: of for name, of in lines.items() if of and not SKIP.search(name)}


def end_of(text, at):
    """Behind the bracket that closes the one at text[at]"""
    depth = 0
    while at < len(text):
        depth += text[at] in "([{"
        depth -= text[at] in ")]}"
        at += 1
        if not depth:
            return at
    raise ValueError("a bracket is not closed")


def blanked(text):
    """The text without comments and strings, of the same length"""
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"',
                  lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def places(text, lines):
    """(function, rule, from, to) of all that can be changed in those lines"""
    plain, start, function, number, before = blanked(text), 0, None, 0, ";"
    for line in plain.splitlines(keepends=True):
        number += 1
        if match := re.match(r"[A-Za-z_][^=;#]*?(\w+)\(", line):
            function = match[1]
        if line.startswith("#") or line.rstrip().endswith("\\"):
            start += len(line)
            continue
        code, last = line.strip(), before
        before = code or before
        # Where a statement begins
        if number in lines and line.startswith("\t") and function and \
                re.search(r"([;{}:)]|\belse)$", last):
            at = start + (line.index(code[0]) if code else 0)
            if match := re.match(r"(?:\} )?(?:else )?if \(", code):
                begin = at + match.end() - 1
                yield function, "not", begin, end_of(plain, begin)
            elif match := re.match(r"return (-E[A-Z]+);", code):
                yield function, "errno", at + 7, at + 7 + len(match[1])
            elif match := re.match(r"return (true|false);", code):
                yield function, "bool", at + 7, at + 7 + len(match[1])
            elif match := re.match(r"for \(.*; \w+ < ([^;&|]*?)(?: &&|;)", code):
                yield function, "edge", at + match.start(1), at + match.end(1)
            elif match := re.match(r"(\w+)\(", code):
                end = end_of(plain, at + match.end() - 1)
                if plain[end] == ";" and not NEVER.match(match[1]):
                    yield function, "drop", at, end
            elif match := re.match(r"\**[\w.>\[\]-]+ [|&+-]= [^;]*;", code):
                yield function, "drop", at, at + match.end() - 1
        start += len(line)


def change(rule, n, text):
    if rule == "not":
        return f"((MTE_MUTANT({n})) ? !{text} : !!{text})"
    if rule == "errno":
        return f"(MTE_MUTANT({n}) ? -EXDEV : {text})"
    if rule == "bool":
        return f"(MTE_MUTANT({n}) != {text})"
    if rule == "edge":
        return f"({text}) - MTE_MUTANT({n})"
    return f"MTE_UNLESS({n}, {text})"


def by_hand(base):
    """(name, file, text, text instead) for that base"""
    found = subprocess.run(
        ["git", "config", "-f", TOP / "scripts/expect/mutants", "--null", "--get-regexp",
         r"^hand\."], capture_output=True, text=True, check=False).stdout
    hands = {}
    for entry in filter(None, found.split("\0")):
        key, value = entry.split("\n", 1)
        name, what = key[5:].rsplit(".", 1)
        hands.setdefault(name, {})[what] = value
    for name, hand in hands.items():
        if base in hand.get("bases", base).split():
            yield name, hand["file"], hand["old"], hand["new"]


def main():
    if "--help" in sys.argv or "-h" in sys.argv or len(sys.argv) < 5:
        print(__doc__)
        return 0 if "--help" in sys.argv or "-h" in sys.argv else 2
    tree, old, new, base = sys.argv[1:5]
    chosen = {int(number) for number in sys.argv[5:]}
    n, texts, listed = 0, {}, []
    for name, lines in sorted(added(tree, old, new).items()):
        text = (Path(tree) / name).read_text()
        edits, seen = [], {}
        for function, rule, begin, end in places(text, lines):
            n += 1
            seen[function, rule] = seen.get((function, rule), 0) + 1
            listed.append((n, f"{function}:{rule}:{seen[function, rule]}", name))
            if n in chosen:
                edits.append((begin, end, change(rule, n, text[begin:end])))
        for begin, end, instead in reversed(edits):
            text = text[:begin] + instead + text[end:]
        if edits:
            texts[name] = text
    for what, name, was, instead in by_hand(base):
        text = texts.get(name) or (Path(tree) / name).read_text()
        if text.count(was) != 1:
            print(f"mutants.py: error: {what}: its text is in {name} "
                  f"{text.count(was)} times, not once", file=sys.stderr)
            return 1
        n += 1
        listed.append((n, f"hand:{what}", name))
        if n in chosen:
            texts[name] = text.replace(was, instead.replace("MUTANT", f"MTE_MUTANT({n})"))
    for name, text in texts.items():
        # Behind the SPDX line, and the guard of a header
        if name.endswith(".h"):
            at = re.search(r"^#define \w+\n", text, re.M).end()
        else:
            at = text.index("\n") + 1
            if not text.startswith("//"):
                at = re.match(r"\s*/\*.*?\*/\n", text, re.S).end()
        text = text[:at] + HEADER + text[at:]
        (Path(tree) / name).write_text(text)
    if chosen:
        owner = Path(tree) / OWNER
        owner.write_text(owner.read_text() + DEFINITION)
    for entry in listed:
        print(*entry)
    return 0


if __name__ == "__main__":
    sys.exit(main())
