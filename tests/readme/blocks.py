"""The fenced blocks of a Markdown file and the command lines in them: what README promises, for whoever runs or checks it.

A block's information string says what it is: `sh` is run by a test as it stands, `sh unrun` needs an account, a cluster or
systemd, and only its form is checked; `toml` is configuration; everything else is for reading.
"""

import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

#: Programs of `sh` blocks, and the test that runs their lines.
RUN_BY = {
    "sidegate": "interop",
    "curl": "interop",
    "dig": "interop",
    "install": "interop",
    "docker": "images",
    "docker-compose": "images",
    "cargo": "ci",
}


@dataclass
class Block:
    """One fenced block: its information string, its text, and the line that it begins on."""

    info: str
    text: str
    line: int


@dataclass
class Command:
    """One command line, continuation lines joined, without its comment."""

    text: str
    line: int

    @property
    def program(self):
        """The word that is run, behind any variables."""
        words = shlex.split(self.text, comments=True)
        return next((word for word in words if not re.match(r"[A-Z_]+=", word)), "")


def blocks(path):
    """Every fenced block of a file, in order."""
    return blocks_in(Path(path).read_text(encoding="utf-8"))


def blocks_in(text):
    """Every fenced block, in order."""
    found, opened = [], None
    for number, line in enumerate(text.splitlines(), 1):
        if opened is None and line.startswith("```"):
            opened = Block(line[3:].strip(), "", number + 1)
        elif opened is not None and line.startswith("```"):
            found.append(opened)
            opened = None
        elif opened is not None:
            opened.text += line + "\n"
    return found


def commands(block):
    """The command lines of a shell block."""
    found, text, began = [], "", 0
    for offset, line in enumerate(block.text.splitlines()):
        began = began if text else block.line + offset
        if line.endswith("\\"):
            text += line[:-1]
            continue
        text += line
        if text.strip() and not text.lstrip().startswith("#"):
            found.append(Command(text.strip(), began))
        text = ""
    return found


def run_here(path, where):
    """The lines of `sh` blocks that one test runs, in order."""
    lines = [command for block in blocks(path) if block.info == "sh" for command in commands(block)]
    return [command for command in lines if RUN_BY.get(command.program) == where]


if __name__ == "__main__":
    # blocks.py PAGE TEST: for a test that is a shell script.
    print("\n".join(command.text for command in run_here(*sys.argv[1:])))
