"""Programs that run beside the checks: started, awaited, stopped, killed."""

import signal
import socket
import subprocess
import time


class ProcessError(Exception):
    """A program did not do what it was started for."""


def wait_until(true, within, what):
    """Polls until `true()` is; raises when it is not `within` so many seconds. `what` is words, or a call that finds them."""
    deadline = time.monotonic() + within
    while not true():
        if time.monotonic() > deadline:
            raise ProcessError(f"{what() if callable(what) else what}: not within {within} s")
        time.sleep(0.02)


def accepts(address, port):
    """Whether something listens on this TCP port."""
    try:
        with socket.create_connection((address, port), timeout=0.5):
            return True
    except OSError:
        return False


class Process:
    """One program with its output in a file."""

    def __init__(self, name, command, log, env=None, cwd=None, pass_fds=()):
        self.name, self.log = name, log
        self.command = [str(word) for word in command]
        with open(log, "ab") as out:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                pass_fds=pass_fds,
            )

    @property
    def pid(self):
        return self._child.pid

    def alive(self):
        return self._child.poll() is None

    def output(self):
        return self.log.read_text(errors="replace")

    def peak_memory(self):
        """The most bytes of memory that it ever had at once, 0 if it has ended."""
        try:
            with open(f"/proc/{self._child.pid}/status", encoding="ascii") as status:
                return next((int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:")), 0)
        except OSError:
            return 0

    def await_port(self, address, port, within=20):
        def listens():
            if not self.alive():
                raise ProcessError(f"{self.name} ended with {self._child.returncode}: {self.output()[-2000:]}")
            return accepts(address, port)

        wait_until(listens, within, f"{self.name} on {address}:{port}")

    def signal(self, number):
        if self.alive():
            self._child.send_signal(number)

    def wait(self, within):
        """The exit code, or None if it has not ended by then."""
        try:
            return self._child.wait(within)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, within=10):
        """Ends it and gives its exit code; None if it had to be killed."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        code = self.wait(within)
        if code is None:
            self.signal(signal.SIGKILL)
            self.wait(within)
        return code


def run(command, within=30, env=None, cwd=None, stdin=None):
    """Runs a program to its end; gives exit code, stdout, stderr."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=within,
            env=env,
            cwd=cwd,
            input=stdin,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        out = (late.stdout or b"").decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        return None, out, f"not done within {within} s"
    return done.returncode, done.stdout, done.stderr
