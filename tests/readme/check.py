"""Checks that every command line in README.md is run by some test, or has a form that can be right; blocks.py says which
line is which. Ends with 1 if not, or if a mistake that planted.py puts into a copy of the page is not found.
"""

import re
import subprocess
import sys
from pathlib import Path

from blocks import RUN_BY, blocks_in, commands
from forms import PROGRAMS, taken_apart
from pages import dead_links
from planted import PLANTED
from targets import ROOT, Targets, missing_files

README = ROOT / "README.md"


class Page:
    """One reading of the page."""

    def __init__(self, text):
        self.text = text
        self.problems, self.run, self.shaped = [], 0, 0
        self.targets = Targets(text)
        self.steps = steps_of_ci()

    def read(self):
        """Everything that is wrong with the page."""
        for block in blocks_in(self.text):
            words = block.info.split()
            if words[:1] == ["sh"]:
                self.shell(block, words[1:])
            else:
                # A command that nobody runs must not hide in a block for reading.
                programs = "|".join(sorted(PROGRAMS | set(RUN_BY)))
                stray = [line for line in block.text.splitlines() if re.match(rf"({programs}) ", line)]
                self.wrong(block.line, (f"`{line}` stands in a block that is not `sh`" for line in stray))
        self.wrong(None, dead_links(self.text, README))
        return self.problems

    def shell(self, block, words):
        """A block of command lines."""
        if words not in ([], ["unrun"]):
            self.wrong(block.line, [f"no block is `{block.info}`"])
        done = subprocess.run(["bash", "-n"], input=block.text, text=True, capture_output=True, check=False)
        if done.returncode:
            self.wrong(block.line, ["bash does not take this block"])
            return
        for command in commands(block):
            self.wrong(command.line, (f"`{command.text}`: {what}" for what in self.wrong_in(command, words)))

    def wrong_in(self, command, words):
        """What is wrong with one line."""
        text, program = command.text, command.program
        if words == ["unrun"]:
            self.shaped += 1
            if program not in PROGRAMS:
                yield f"{program} is none of {sorted(PROGRAMS)}"
        else:
            self.run += 1
            if program not in RUN_BY:
                yield f"no test runs {program}; mark the block `sh unrun`"
            if RUN_BY.get(program) == "ci" and without_locked(text) not in self.steps:
                yield "it is a step of neither .ci/run nor .ci/full"
        if program not in PROGRAMS:
            yield from missing_files(text)
            return
        call, problems = taken_apart(text)
        yield from problems
        if call:
            yield from self.targets.missing(call, text)

    def wrong(self, line, what):
        place = "README.md" if line is None else f"README.md:{line}"
        self.problems += [f"{place}: {one}" for one in what]


def without_locked(line):
    """CI keeps the lock file as it is; whoever tries it out need not."""
    return " ".join(line.replace(" --locked", "").split())


def steps_of_ci():
    """The lines of both scripts, whole."""
    lines = [line for name in ("run", "full") for line in (ROOT / ".ci" / name).read_text(encoding="utf-8").splitlines()]
    return {without_locked(line) for line in lines}


def not_found(text):
    """Planted mistakes that nothing was said of."""
    for right, mistaken in PLANTED:
        if right not in text:
            yield f"tests/readme/planted.py: README.md does not have `{right}` any more"
        elif not Page(text.replace(right, mistaken, 1)).read():
            yield f"tests/readme/check does not find `{mistaken}` in place of `{right}`"


def main():
    """Prints what is wrong, and how much was looked at."""
    text = README.read_text(encoding="utf-8")
    page = Page(text)
    problems = page.read()
    problems = problems or list(not_found(text))
    done = f"{page.run} lines are run by tests, {page.shaped} have a possible form, {len(PLANTED)} planted mistakes are found"
    print("\n".join(problems) or f"README.md: {done}")
    return 1 if problems else 0


sys.exit(main())
