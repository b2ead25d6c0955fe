# SPDX-License-Identifier: GPL-2.0
"""What scripts/check/ci asks of the files of Documentation/ci: ci_files.py CHECK ARGUMENT..."""
import fnmatch
import json
import re
import sys
from pathlib import Path

SIZE = {"int8": 1, "int16": 2, "int32": 4, "int64": 8, "ptr64": 8}
# Words of the language, and what sys/linux of syzkaller defines
KNOWN = set(SIZE) | {"array", "const", "flags", "ptr", "len", "in", "out", "inout",
                     "fd_kvmvm", "fd", "vma", "fileoff", "mmap_flags"}
CONSTANT = r"[A-Z][A-Z0-9_]+"
# pkg/mgrconfig and vm/qemu of syzkaller
NEED = set("target workdir image sshkey syzkaller type vm".split())
MAY = NEED | set("name http rpc kernel_obj kernel_src kernel_build_src tag ssh_user procs sandbox "
                 "cover reproduce enable_syscalls disable_syscalls suppressions ignores".split())
VM = set("count qemu qemu_args kernel cmdline initrd image_device cpu mem snapshot "
         "efi_code_device efi_vars_device".split())


def read(name):
    return Path(name).read_text(encoding="utf-8")


def same_machine(have, want, cpu, want_cpu):
    """The options of QEMU, in any order."""
    assert sorted(have.split(",")) == sorted(want.split(",")), f"-M {have}"
    assert cpu == want_cpu, f"-cpu {cpu}"


def job(name, machine, cpu):
    """A LAVA job: its schema; prints the steps, which are shell."""
    import yaml
    from lava_common.schemas import validate
    text = yaml.safe_load(read(name))
    validate(text, strict=True)
    same_machine(text["context"]["machine"], machine, text["context"]["cpu"], cpu)
    tests = text["actions"][-1]["test"]["definitions"][0]["repository"]
    print("\n".join(tests["run"]["steps"]))


def bytes_of(kind):
    """The size of a type."""
    if m := re.fullmatch(r"array\[(.*), (\d+)\]", kind):
        return bytes_of(m[1]) * int(m[2])
    if m := re.fullmatch(r"(?:const|flags)\[\w+, (\w+)\]", kind):
        return SIZE[m[1]]
    return SIZE[kind.split("[")[0]]


def description(name):
    """A syzkaller description: prints C that builds if the kernel's headers agree."""
    text = re.sub(r"#.*", "", read(name))
    structs = dict(re.findall(r"^(\w+) \{\n(.*?)^\}", text, re.M | re.S))
    flags = dict(re.findall(r"^(\w+) = (.*)$", text, re.M))
    calls = re.findall(r"^\w+\$\w+\((.*)\)$", text, re.M)
    entries = r"^(include .*|\w+ \{\n(?:\t.*\n)*\}|\w+ = .*|\w+\$\w+\(.*\)|\s*)$"
    rest = re.sub(entries, "", text, flags=re.M).strip()
    assert not rest, f"not understood: {rest}"
    known = KNOWN | set(structs) | set(flags)
    constants = set(re.findall(rf"\b{CONSTANT}\b", " ".join(flags.values())))

    def look_up(kind, names):
        for word in re.findall(r"[A-Za-z_]\w*", kind):
            if re.fullmatch(CONSTANT, word):
                constants.add(word)
            else:
                assert word in known | names, f"unknown type {word}"

    for header in re.findall(r"^include <(?:uapi/)?(.*)>$", text, re.M):
        print(f"#include <{header}>")
    print("#include <stddef.h>")
    for struct, body in structs.items():
        at = 0
        for field, kind in re.findall(r"^\t(\w+)\s+(.+)$", body, re.M):
            look_up(kind, set())
            print(f'_Static_assert(offsetof(struct {struct}, {field}) == {at}, "offset");')
            at += bytes_of(kind)
        print(f'_Static_assert(sizeof(struct {struct}) == {at}, "size");')
    for call in calls:
        nested = r"(\w+) (\w+(?:\[(?:[^][]|\[[^]]*\])*\])?)(?:, |$)"
        arguments = re.findall(nested, call)
        assert ", ".join(" ".join(a) for a in arguments) == call, f"not understood: {call}"
        for _, kind in arguments:
            # len[addr] names another argument.
            look_up(kind, {a for a, _ in arguments})
    print("unsigned long constants[] = {", ", ".join(sorted(constants)), "};")


def manager(name, calls, machine, cpu):
    """A configuration of syz-manager, which enables the calls of a description."""
    config = json.loads(read(name))
    assert NEED <= set(config) <= MAY, f"keys: {sorted(set(config) - MAY | NEED - set(config))}"
    assert set(config["vm"]) <= VM, f"keys: {sorted(set(config['vm']) - VM)}"
    assert (config["target"], config["type"]) == ("linux/arm64", "qemu"), config["target"]
    have = re.fullmatch(r"-machine (\S+) -cpu (\S+)", config["vm"]["qemu_args"])
    same_machine(have[1], machine, have[2], cpu)
    for call in re.findall(r"^(\w+\$\w+)\(", read(calls), re.M):
        assert any(fnmatch.fnmatchcase(call, p) for p in config["enable_syscalls"]), \
            f"{call} is not enabled"


def tuxrun(name):
    """Command lines: no validator of tuxrun is in Debian, so these options and tests."""
    text = read(name).replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line.startswith("\ttuxrun")]
    assert lines, "no command line"
    for line in lines:
        options = dict(zip(line[1::2], line[2::2]))
        assert list(options) == ["--device", "--kernel", "--tests", "--parameters"], line
        assert options["--device"] == "qemu-arm64", line
        assert options["--tests"] in ("kselftest-arm64", "kselftest-kvm"), line
        assert re.fullmatch(r"KSELFTEST=https://\S+\.tar\.xz", options["--parameters"]), line


if __name__ == "__main__":
    {f.__name__: f for f in (job, description, manager, tuxrun)}[sys.argv[1]](*sys.argv[2:])
