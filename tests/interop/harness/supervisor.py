"""systemd's part of the agreement, played: it holds the sockets, listens to the notify socket, starts and ends."""

import configparser
import fcntl
import os
import signal
import socket
import threading
import time
from pathlib import Path

from .processes import ProcessError, run, wait_until

UNITS = Path(__file__).parent.parent.parent.parent / "config" / "systemd"
#: How systemd sets ReceiveBuffer=, whatever net.core.rmem_max says; Python does not know its number.
SO_RCVBUFFORCE = 33
#: In DynamicUser's place, for lines without `+`.
SERVICE_USER = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]
KINDS = {"ListenDatagram": socket.SOCK_DGRAM, "ListenStream": socket.SOCK_STREAM}


def listeners(unit):
    """Kind and address of each socket of a socket unit that we ship."""
    found = []
    for line in (UNITS / unit).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key in KINDS:
            address, port = value.rsplit(":", 1)
            found.append((KINDS[key], address, int(port)))
    return found


def setting(unit, section, key):
    """One setting of a unit that we ship."""
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(UNITS / unit, encoding="utf-8")
    return parser[section][key]


def lines(unit, key):
    """The command lines of one key in the drop-ins that we ship for a unit: their prefixes, and their words."""
    told = "".join(path.read_text(encoding="utf-8") for path in sorted((UNITS / f"{unit}.d").glob("*.conf")))
    found = [line.partition("=")[2] for line in told.splitlines() if line.startswith(f"{key}=")]
    return [(line[: len(line) - len(line.lstrip("-+"))], line.lstrip("-+").split()) for line in found]


class Supervisor:
    """One service and its sockets, whose /etc/resolv.conf is this file. With sockets the lines of the shipped drop-ins are run
    as well. What is started ends with the world."""

    def __init__(self, world, sockets, environment, resolv_conf, watchdog=None):
        self.world = world
        #: Words before a command for which that file is /etc/resolv.conf.
        self.inside = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', resolv_conf]
        #: What the drop-ins' lines came to: unit, key, exit code, what was said.
        self.played = []
        self._drop_ins = bool(sockets)
        self._play("sidegate.socket", "ExecStartPre", {})
        self.process = None
        self.heard = []
        self.watchdog = watchdog
        self._sockets = [self._bind(*each) for each in sockets]
        path = world.work / f"notify-{id(self)}"
        self._ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._ear.bind(str(path))
        self._environment = {**environment, "NOTIFY_SOCKET": str(path)}
        if watchdog:
            self._environment["WATCHDOG_USEC"] = str(int(watchdog * 1e6))
        threading.Thread(target=self._listen, daemon=True).start()
        self._play("sidegate.socket", "ExecStartPost", {})

    def _play(self, unit, key, environment):
        """Runs the lines as systemd does: with `+` as root, as the lines of a socket are anyway; with `-` whatever they end with."""
        for prefixes, (_, *words) in lines(unit, key) if self._drop_ins else []:
            as_root = "+" in prefixes or unit.endswith(".socket")
            command = [*self.inside, *([] if as_root else SERVICE_USER), self.world.sidegate, *words]
            code, out, error = run(command, 30, env={**os.environ, **environment})
            self.played.append((unit, key, code, out + error))
            if code != 0 and "-" not in prefixes:
                raise ProcessError(f"{unit}, {key}: exit {code} {out}{error}")

    @staticmethod
    def _bind(kind, address, port):
        bound = socket.socket(socket.AF_INET, kind)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if kind == socket.SOCK_DGRAM:
            bound.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 20)
        bound.bind((address, port))
        if kind == socket.SOCK_STREAM:
            bound.listen(1024)
        # Out of the way of the numbers that the service will have.
        number = fcntl.fcntl(bound.fileno(), fcntl.F_DUPFD_CLOEXEC, 64)
        bound.close()
        return socket.socket(fileno=number)

    def _listen(self):
        while True:
            try:
                text = self._ear.recv(4096).decode()
            except OSError:
                return
            self.heard.append((time.monotonic(), dict(line.split("=", 1) for line in text.splitlines())))

    def _since(self, mark, key):
        return [told[key] for _, told in self.heard[mark:] if key in told]

    def status(self):
        """The last STATUS."""
        return self._since(0, "STATUS")[-1]

    def last_fed(self):
        """When the watchdog was fed last."""
        return max((at for at, told in self.heard if told.get("WATCHDOG") == "1"), default=0.0)

    def start(self):
        """Starts the service with its sockets as descriptors 3 and up; gives the seconds until READY."""
        mark, began = len(self.heard), time.monotonic()
        numbers = [each.fileno() for each in self._sockets]
        script = "".join(f"exec {at}<&{number} {number}<&-; " for at, number in enumerate(numbers, 3))
        environment = dict(self._environment)
        before = []
        if numbers:
            environment["LISTEN_FDS"] = str(len(numbers))
            # The shell becomes the service, with the number that it tells.
            before = ["bash", "-c", f'{script}LISTEN_PID=$$ exec "$@"', "sh"]
        self.process = self.world.start("run", env=environment, before=[*self.inside, *before], pass_fds=numbers)
        wait_until(lambda: self._since(mark, "READY"), 20, lambda: f"READY: {self.process.output()[-2000:]}")
        seconds = time.monotonic() - began
        self._play("sidegate.service", "ExecStartPost", self._environment)
        return seconds

    def ended(self, within):
        """The exit code of a process that ends, after which ExecStopPost is run."""
        code = self.process.wait(within)
        self._play("sidegate.service", "ExecStopPost", self._environment)
        return code

    def reload(self):
        """ExecReload; gives what was told from RELOADING to READY."""
        mark = len(self.heard)
        self.process.signal(signal.SIGHUP)
        wait_until(lambda: self._since(mark, "READY"), 10, "READY after a reload")
        keys = [key for _, told in self.heard[mark:] for key in told if key != "WATCHDOG"]
        if keys[:2] != ["RELOADING", "MONOTONIC_USEC"]:
            raise ProcessError(f"a reload began with {keys}")
        return keys

    def end(self, within=30):
        """SIGTERM; gives the exit code."""
        mark = len(self.heard)
        self.process.signal(signal.SIGTERM)
        code = self.ended(within)
        if "1" not in self._since(mark, "STOPPING"):
            wait_until(lambda: self._since(mark, "STOPPING"), 1, "STOPPING")
        return code

    def kill(self):
        """kill -9, or what a watchdog does."""
        self.process.signal(signal.SIGKILL)
        self.ended(5)

    def close(self, power_cut=False):
        """Ends the service, and lets go of its sockets; once."""
        if self._ear.fileno() < 0:
            return
        if self.process and self.process.alive():
            if power_cut:
                self.process.signal(signal.SIGKILL)
                self.process.wait(5)
            else:
                self.process.signal(signal.SIGTERM)
                self.ended(10)
                self.process.stop(1)
        for each in [*self._sockets, self._ear]:
            each.close()
        if not power_cut:
            self._play("sidegate.socket", "ExecStopPost", {})

