"""Health of an endpoint's addresses, beside the other checks: it takes its time."""

import socket
import threading
import time
import traceback

from .discovery_lab import status
from .world import LOCAL

ADDRESSES, PORT = ["127.0.7.1", "127.0.7.2"], 4443
DNS_PORT, ADMIN = 5399, f"{LOCAL}:9199"
#: Two probes, five seconds apart, the longest that one may take, and jitter.
WITHIN = 14


class Health:
    """Two addresses and a Sidegate of their own. `run` goes on in a thread; `report` prints what came of it."""

    def __init__(self, lab):
        self._lab = lab
        self._results = []
        self._listeners = {}
        self._thread = threading.Thread(target=self._run_to_its_end, daemon=True)

    def start(self):
        for address in ADDRESSES:
            self._listen(address)
        addresses = ", ".join(f'"{address}"' for address in ADDRESSES)
        configuration = self._lab.configuration(
            "",
            f'private_api_ids = ["privapi123"]\n[[endpoint]]\naddresses = [{addresses}]\nport = {PORT}\n',
            listen=[f"{LOCAL}:{DNS_PORT}"],
            admin=ADMIN,
        )
        self.sidegate = self._lab.run(configuration, listen=f"{LOCAL}:{DNS_PORT}")
        self._thread.start()

    def _listen(self, address):
        listener = socket.create_server((address, PORT), backlog=64)
        self._listeners[address] = listener

        def accept():
            while True:
                try:
                    listener.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()

    def _close(self, address):
        # Not close alone: the thread that accepts would keep it listening.
        listener = self._listeners.pop(address)
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()

    def _up(self):
        """What /status says: the addresses that are up."""
        found = status(ADMIN)
        return (
            sorted(entry["address"] for entry in found["endpoints"][0]["addresses"] if entry["up"]) if found else None
        )

    def _becomes(self, what, wanted, up=None):
        began = time.monotonic()
        until = began + WITHIN + 6

        def now():
            return self._lab.resolve("privapi123", DNS_PORT), self._up()

        right = (sorted(wanted), sorted(wanted if up is None else up))
        while now() != right and time.monotonic() < until:
            time.sleep(0.1)
        seconds = time.monotonic() - began
        problems = [] if now() == right else [f"{now()}, not {right}"]
        problems += [f"later than {WITHIN} s"] if seconds > WITHIN else []
        self._results.append((f"{what}, {seconds:.1f} s", problems))

    def _run(self):
        first, second = ADDRESSES
        self._becomes("both listen: both are answered, /status says up", ADDRESSES)
        self._close(first)
        self._becomes("one stops listening: out of DNS, down in /status", [second])
        self._close(second)
        self._becomes("the other too: all are down, so all are answered", ADDRESSES, [])
        self._listen(second)
        self._becomes("one listens again: it alone is answered", [second])
        self._listen(first)
        self._becomes("both again: both are answered", ADDRESSES)

    def _run_to_its_end(self):
        try:
            self._run()
        except Exception:  # pylint: disable=broad-except
            self._results.append(("the checks run to their end", [traceback.format_exc(limit=-3)]))

    def report(self, report):
        """Waits for the end."""
        self._thread.join()
        report.section("Health of the endpoint's addresses, probed every 5 s")
        for name, problems in self._results:
            report.check(name, problems)
        self.sidegate.stop()
        for address in list(self._listeners):
            self._close(address)
