"""The table of checks and the line that ends it."""

import sys
import time


class Report:
    """Prints each check as it ends and counts."""

    #: Lines printed below a failed check; the rest is counted.
    MOST = 12

    def __init__(self):
        self.passed = 0
        self.failed = 0
        self._began = time.monotonic()

    def section(self, title):
        seconds = time.monotonic() - self._began
        print(f"\n{title}  [{seconds:.0f} s]", flush=True)

    def check(self, name, problems=()):
        """One check: passed if there is nothing to complain about. True or False will do, and so will one string."""
        if problems is True or problems is None:
            problems = []
        elif problems is False:
            problems = ["it is not so"]
        elif isinstance(problems, str):
            problems = [problems]
        problems = list(problems)
        if problems:
            self.failed += 1
        else:
            self.passed += 1
        print(f"  {'FAIL' if problems else 'ok  '} {name}")
        for problem in problems[: self.MOST]:
            print("         " + str(problem).replace("\n", "\n         "))
        if len(problems) > self.MOST:
            print(f"         ... and {len(problems) - self.MOST} more")
        sys.stdout.flush()

    def note(self, text):
        """A line between the checks that is none."""
        print(f"       {text}  [{time.monotonic() - self._began:.0f} s]", flush=True)

    def finish(self):
        print(f"\n{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed or not self.passed else 0
