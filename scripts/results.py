# SPDX-License-Identifier: GPL-2.0
"""The results of a run as other tools read them, for scripts/report.

RESULTS/ktap/PROGRAM.ktap has one line for each verdict, "not ok" for all but PASS and an
expected SKIP; the kernel's tools/testing/kunit/kunit.py parse reads it.
RESULTS/results.json is a KernelCI report, schema 5.0: a checkout, a build, and a test for
each verdict.
"""
import json
import re
import shutil
from pathlib import Path

ORIGIN = "mte_page_tags"
# The rest is FAIL.  Only a test that ran can say that the kernel is wrong.
STATUS = {"PASS": "PASS", "SKIP": "SKIP", "MISSING": "MISS", "DIED": "ERROR"}


def flat(text):
    """What may follow a directive: one line, without another directive."""
    return " ".join(text.replace("#", " ").split())


def program_of(line):
    """The selfcheck and the like are there once for each VM."""
    if ":" in line.program or not hasattr(line, "log"):
        return line.program.replace(":", ".").replace("/", "-")
    return f"{line.program}-{line.log.stem}"


def ktap(lines):
    """The text of a KTAP file."""
    out = ["KTAP version 1", f"1..{len(lines)}"]
    for number, line in enumerate(lines, 1):
        name = flat(line.name)
        if line.state == "SKIP":
            out.append(f"ok {number} {name} # SKIP {flat(line.why)}".rstrip())
            continue
        if line.state != "PASS":
            out.append(f"# {line.state}: {flat(line.why)}")
        out.append(f"{'ok' if line.state == 'PASS' else 'not ok'} {number} {name}")
    return "\n".join(out) + "\n"


def kernel_of(folder):
    """What the kernel says of itself on the first console."""
    for log in sorted(folder.glob("*.log")):
        found = re.search(r"Linux version (\S+) .*", log.read_text(errors="replace"))
        if found:
            return found[1]
    return "unknown"


def kernelci(base, variant, kernel, lines):
    """A report for KernelCI; the origin is for the sender to change."""
    tree = f"{ORIGIN}:{base}-{variant}"
    tests = []
    for number, line in enumerate(lines, 1):
        path = [re.sub(r"[^a-zA-Z0-9_-]+", "_", part).strip("_") or "_"
                for part in ["kselftest", *program_of(line).split("."), line.name]]
        test = {"id": f"{tree}.{number}", "origin": ORIGIN, "build_id": tree,
                "path": ".".join(path), "status": STATUS.get(line.state, "FAIL"),
                "environment": {"comment": "QEMU virt, -cpu max, EL2, MTE"},
                "misc": {"name": line.name, "state": line.state,
                         "ktap": f"ktap/{program_of(line)}.ktap"}}
        if line.why:
            test["comment"] = line.why
        tests.append(test)
    return {"version": {"major": 5, "minor": 0},
            "checkouts": [{"id": tree, "origin": ORIGIN, "valid": True,
                           "comment": f"Linux {kernel}, {variant}"}],
            "builds": [{"id": tree, "origin": ORIGIN, "checkout_id": tree,
                        "architecture": "arm64", "status": "PASS"}],
            "tests": tests}


def leave(base, variant, folder, lines):
    """Write both, in the folder of the results."""
    folder = Path(folder)
    shutil.rmtree(folder / "ktap", ignore_errors=True)
    (folder / "ktap").mkdir()
    programs = {}
    for line in lines:
        programs.setdefault(program_of(line), []).append(line)
    for program, of in programs.items():
        (folder / "ktap" / f"{program}.ktap").write_text(ktap(of))
    report = kernelci(base, variant, kernel_of(folder), lines)
    (folder / "results.json").write_text(json.dumps(report, indent=1) + "\n")
