# SPDX-License-Identifier: GPL-2.0
"""The patches of a series and their notes, for provenance, export and check/contract.

What is below the "---" of a patch is its note (refs/notes/below in the tree):

	Upstream: <40 hex digits> vX.Y [partial]	is (part of) that commit; may be repeated
	Upstream: no, <reason>				not yet in mainline
	Upstream: never, <reason>			only this base needs it
	Differs: <text>					from the upstream commit, and how
	Forwarded: <URL>				where it was sent
	Bug: H4 H5					entries of Documentation/bugs.rst
	Overlay: <folder> <file>...			its new files come from there
	Context: <n>, <reason>				written with n lines of context

The upstream lines of the message are generated from it, see with_origin().
"""
import re
import textwrap
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
ORIGIN = re.compile(r"\A(?:\[ (?:Part of upstream|Upstream) commit [0-9a-f]{40} \]\n)+\n")
DIFFERS = re.compile(r"^\[ Differs from upstream: [^]]*\]\n\n?", re.M)
TRAILER = re.compile(r"^[A-Z][A-Za-z-]+: \S")
KEYS = ("Upstream", "Differs", "Forwarded", "Bug", "Overlay", "Context")


class Bad(Exception):
    """One line that says what is wrong."""


class Upstream:
    """One line of patches/upstream."""

    def __init__(self, commit, version, subject):
        self.commit, self.subject = commit, subject
        self.version, *self.stable = version.split(",")


def upstream_list(path=TOP / "patches/upstream"):
    """The known commits of mainline, in the order of the file."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            entry = line.split(" ", 2)
            if len(entry) != 3 or not re.fullmatch(r"[0-9a-f]{12,40}", entry[0]) or \
                    not re.fullmatch(r"v\d+\.\d+(,\d+\.\d+)*", entry[1]):
                raise Bad(f"patches/upstream: not 'id vX.Y subject': {line}")
            found.append(Upstream(*entry))
    return found


def lookup(known, commit):
    """The entry that an abbreviated id stands for."""
    for entry in known:
        if entry.commit.startswith(commit) or commit.startswith(entry.commit):
            return entry
    raise Bad(f"{commit[:12]} is not in patches/upstream")


def number(version):
    """v6.2 -> (6, 2)"""
    return tuple(int(n) for n in re.findall(r"\d+", version)[:2])


class Note:
    """What the lines below the "---" say."""

    def __init__(self, text):
        self.text = text.strip("\n")
        self.commits, self.state, self.reason = [], None, ""
        self.lines = {key: [] for key in KEYS}
        for line in self.text.splitlines():
            key, _, value = line.partition(": ")
            if key in self.lines and value.strip():
                self.lines[key].append(value.strip())
            else:
                raise Bad(f"no line of a note: '{line}'")
        for value in self.lines["Upstream"]:
            commit = re.fullmatch(r"([0-9a-f]{40}) (v\d+\.\d+)( partial)?", value)
            plain = re.fullmatch(r"(no|never), (.+)", value)
            if commit:
                self.commits.append((commit[1], commit[2], bool(commit[3])))
            elif plain and len(self.lines["Upstream"]) == 1:
                self.state, self.reason = plain[1], plain[2]
            else:
                raise Bad(f"no such form: 'Upstream: {value}'")
        if not self.lines["Upstream"]:
            raise Bad("no line Upstream:")
        for value in self.lines["Forwarded"]:
            if not re.fullmatch(r"https?://\S+", value):
                raise Bad(f"Forwarded: wants an address, not '{value}'")
        self.differs = " ".join(self.lines["Differs"])
        if self.differs and not self.commits:
            raise Bad("Differs: without an upstream commit")
        if re.search(r"[][]", self.differs):
            raise Bad("Differs: with a bracket")
        self.bugs = " ".join(self.lines["Bug"]).split()

    def mainline(self):
        """Patch-mainline and what belongs to it, in openSUSE's vocabulary."""
        sent = self.lines["Forwarded"]
        if self.commits:
            # One header takes one commit; it is the first that is there as a whole.
            commit, version, _ = sorted(self.commits, key=lambda c: c[2])[0]
            others = [f"Alt-commit: {c}" for c, _, _ in self.commits if c != commit]
            return [f"Patch-mainline: {version}", f"Git-commit: {commit}"] + others
        if self.state == "never":
            return [f"Patch-mainline: Never, {self.reason}"]
        if sent:
            return [f"Patch-mainline: Submitted, {sent[0]}"]
        return [f"Patch-mainline: Not yet, {self.reason}"]

    def dep3(self):
        """Origin, Forwarded and Applied-Upstream as DEP-3 has them."""
        sent = self.lines["Forwarded"]
        if self.commits:
            url = "https://git.kernel.org/linus/"
            kind = "backport" if self.differs or any(c[2] for c in self.commits) else "upstream"
            first = self.commits[0]
            return [f"Origin: {kind}, {url}{first[0]}", "Forwarded: not-needed",
                    f"Applied-Upstream: {first[1]}, {url}{first[0]}"]
        if self.state == "never":
            return [f"Origin: vendor, {self.reason}", "Forwarded: not-needed"]
        return [f"Origin: vendor, {self.reason}", f"Forwarded: {sent[0] if sent else 'no'}"]


def without_origin(body):
    """A message without its generated lines."""
    return DIFFERS.sub("", ORIGIN.sub("", body))


def with_origin(body, note):
    """A message with the lines that its note asks for: the commit on top, as stable has
    it, and how the patch differs from it before the trailers."""
    body = without_origin(body)
    if note.differs:
        text = textwrap.fill(f"[ Differs from upstream: {note.differs.rstrip('.')}. ]", 75,
                             break_long_words=False, break_on_hyphens=False)
        lines = body.rstrip("\n").split("\n")
        at = len(lines)
        while at and TRAILER.match(lines[at - 1]):
            at -= 1
        if at < len(lines):
            lines[at:at] = text.split("\n") + [""]
        else:
            lines += ["", text]
        body = "\n".join(lines) + "\n"
    top = "".join(f"[ {'Part of upstream' if partial else 'Upstream'} commit {commit} ]\n"
                  for commit, _, partial in note.commits)
    return f"{top}\n{body}" if top else body


class Patch:
    """A file of patches/BASE."""

    def __init__(self, path, text=None):
        self.path, self.name = path, path.name
        text = path.read_text(encoding="utf-8") if text is None else text
        head, _, rest = text.partition("\n\n")
        self.head = head + "\n"
        self.body, rule, rest = rest.partition("\n---\n")
        self.body += "\n"
        # What comes before the diffstat
        stat = re.search(r"^(?: \S.* \| |diff --git )", rest, re.M)
        if not rule or not stat:
            raise Bad(f"{self.name}: no patch as git format-patch writes it")
        self.below, self.diff = rest[:stat.start()], rest[stat.start():]
        subject = re.search(r"^Subject: ((?:.*\n)(?:[ \t].*\n)*)", self.head, re.M)[1]
        self.subject = re.sub(r"^\[[^]]*\] ", "", " ".join(subject.split()))

    @property
    def note(self):
        """The note, parsed."""
        try:
            return Note(self.below)
        except Bad as bad:
            raise Bad(f"{self.name}: {bad}") from None

    def text(self, head=None, body=None, below=None):
        """The whole file again, with what is given instead."""
        pick = lambda new, old: old if new is None else new
        return (pick(head, self.head) + "\n" + pick(body, self.body) + "---\n" +
                pick(below, self.below) + self.diff)


def series(base, top=TOP):
    """[(group, Patch)] of a base in order.  A comment "# Group: NAME - text" starts a group."""
    folder, group, found = top / "patches" / base, "", []
    for line in (folder / "series").read_text(encoding="utf-8").splitlines():
        start = re.match(r"# Group: (\S+)", line)
        if start:
            group = start[1]
        name = re.sub(r"#.*", "", line).strip()
        if name:
            found.append((group, Patch(folder / name)))
    return found


def bases(top=TOP):
    """All bases with a series."""
    return sorted((p.parent.name for p in top.glob("patches/*/series")), key=number)
