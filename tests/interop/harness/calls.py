"""HTTPS calls under load: each API answers its own name with 200 and any other with 403, so that a call tells where it came."""

import signal
import subprocess
import sys

from .clients import SOURCES
from .gateways import GATEWAY, PRIVATE
from .processes import ProcessError


class Calls:
    """Calls without end, each over a connection of its own, and what came of them."""

    #: With less, nothing was tried.
    LEAST = 10

    def __init__(self, before, environment, program=SOURCES / "calls.py", hosts=(PRIVATE, GATEWAY)):
        command = [*before, sys.executable, program, *(f"https://{host}/prod/bytes/10" for host in hosts)]
        self._child = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        # It says so after its first call.
        if self._child.stdout.readline().strip() != "under way":
            self._child.kill()
            raise ProcessError(f"calls: {self._child.communicate()[1][-500:]}")

    def end(self):
        """Ends it and sums up."""
        self._child.send_signal(signal.SIGTERM)
        out, self.error = self._child.communicate(timeout=60)
        if self._child.returncode != 0:
            raise ProcessError(f"calls: {self._child.returncode} {out}{self.error[-500:]}")
        self.calls, self.lost, self.wrong, self.slowest = map(int, out.split())
        return self

    def __str__(self):
        return f"{self.calls} HTTPS calls, {self.lost} lost, {self.wrong} wrong, slowest {self.slowest} ms"

    def none_wrong(self):
        return [str(self), self.error[-900:]] if self.wrong or self.calls < self.LEAST else []

    def none_lost(self):
        return [str(self), self.error[-900:]] if self.lost else self.none_wrong()
