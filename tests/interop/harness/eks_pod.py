"""A pod as kubelet and the VPC's network make it: one network and one /etc/resolv.conf for all of its containers,
ConfigMaps as directories that change by a symlink, startup probes before what comes after."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from .clients import SOURCES
from .processes import Process, ProcessError, run, wait_until

PODS = Path("/run/pods")
#: ClusterFirst, for a pod that says nothing.
CLUSTER_FIRST = {
    "nameservers": ["172.20.0.10"],
    "searches": ["orders.svc.cluster.local", "svc.cluster.local", "cluster.local"],
    "options": [{"name": "ndots", "value": "5"}],
}
#: The pause container: an /etc of the pod's own, its volumes at their places.
PAUSE = """
mount -t overlay overlay -o lowerdir=/etc,upperdir=$1/etc,workdir=$1/work /etc
mount --bind $1/volume /etc/sidegate
mkdir -p /var/lib/sidegate
mount --bind $1/state /var/lib/sidegate
touch $1/up
exec sleep 3600
"""
#: A container with a root that cannot be written to, as this user, without any capability.
CONTAINER = """
mount -o remount,bind,ro / && mount -o remount,bind,ro /etc
exec setpriv --reuid "$1" --regid "$1" --clear-groups --inh-caps=-all --bounding-set=-all --no-new-privs "${@:2}"
"""


class Volume:
    """A projected volume: NAME -> ..data/NAME, ..data -> a directory of that moment, swapped by a rename."""

    def __init__(self, path):
        self.path, self._count = path, 0
        path.mkdir()

    def write(self, files):
        self._count += 1
        now, before = self.path / f"..2026_{self._count}", self.path / "..data"
        now.mkdir()
        for name, text in files.items():
            (now / name).write_text(text, encoding="utf-8")
        old = os.readlink(before) if before.is_symlink() else None
        (self.path / "..data_tmp").symlink_to(now.name)
        os.rename(self.path / "..data_tmp", before)
        for name in files:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        if old:
            shutil.rmtree(self.path / old)


class Pod:
    def __init__(self, cluster, name, spec, address):
        self.cluster, self.name, self.spec, self.address = cluster, name, spec, address
        self.home = PODS / name
        for folder in ("etc/sidegate", "work", "state"):
            (self.home / folder).mkdir(parents=True)
        os.chmod(self.home / "state", 0o777)
        self.volume = Volume(self.home / "volume")
        self.mount_config_maps()
        self._etc()
        self._network()
        pause = ["ip", "netns", "exec", name, "unshare", "--mount", "bash", "-ec", PAUSE, "pause", self.home]
        self.pause = Process(f"{name}'s pause", pause, cluster.home / f"{name}-pause.log")
        wait_until((self.home / "up").exists, 10, lambda: f"the pod {name}: {self.pause.output()}")
        self.enter = ["nsenter", "-t", self.pause.pid, "--mount", "--net", "--"]
        self.sidecar = None

    def mount_config_maps(self):
        """What the ConfigMaps of its volumes hold now."""
        files = {}
        for volume in self.spec.get("volumes", []):
            for source in [volume, *volume.get("projected", {}).get("sources", [])]:
                if "configMap" in source:
                    files |= self.cluster.objects["ConfigMap", source["configMap"]["name"]]["data"]
        if files:
            self.volume.write(files)

    def _etc(self):
        """resolv.conf as kubelet has it written."""
        config = self.spec["dnsConfig"] if self.spec.get("dnsPolicy") == "None" else CLUSTER_FIRST
        options = " ".join(f"{option['name']}:{option['value']}" for option in config["options"])
        lines = [f"search {' '.join(config['searches'])}"]
        lines += [f"nameserver {server}" for server in config["nameservers"]] + [f"options {options}"]
        etc = self.home / "etc"
        (etc / "resolv.conf").write_text("".join(f"{line}\n" for line in lines))
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n{self.address} {self.name}\n")
        shutil.copy(SOURCES / "nsswitch.conf", etc / "nsswitch.conf")

    def _network(self):
        """As the VPC's plugin: one pair of interfaces for a pod, and a route to its one address."""
        node = f"v-{self.name}"[:15]
        inside = ["-n", self.name]
        for words in (
            ["netns", "add", self.name],
            ["link", "add", node, "type", "veth", "peer", "name", "eth0", "netns", self.name],
            ["address", "add", "169.254.1.1/32", "dev", node],
            ["link", "set", node, "up"],
            ["route", "add", f"{self.address}/32", "dev", node, "src", "10.53.20.1"],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "address", "add", f"{self.address}/32", "dev", "eth0"],
            [*inside, "link", "set", "eth0", "up"],
            [*inside, "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link"],
            [*inside, "route", "add", "default", "via", "169.254.1.1"],
        ):
            code, _, error = run(["ip", *words])
            if code != 0:
                raise ProcessError(f"ip {' '.join(words)}: {error}")
        for setting in self.spec.get("securityContext", {}).get("sysctls", []):
            words = ["sysctl", "-qw", f"{setting['name']}={setting['value']}"]
            code, _, error = run(["ip", "netns", "exec", self.name, *words])
            if code != 0:
                raise ProcessError(f"{' '.join(words)}: {error}")

    # Sidegate in it: native sidecar or the only container.

    @property
    def container(self):
        found = [*self.spec.get("initContainers", []), *self.spec["containers"]]
        return next(container for container in found if container["name"] == "sidegate")

    def _as_container(self, words):
        user = str(self.spec["securityContext"]["runAsUser"])
        return [*self.enter, "unshare", "--mount", "bash", "-ec", CONTAINER, "container", user, *words]

    def start_sidegate(self, env=None):
        """Starts it and runs its startup probe as kubelet would; gives the seconds until that has passed."""
        began = time.monotonic()
        name = f"{self.name}'s sidegate"
        self.sidecar = self.cluster.world.start("run", env=env, before=self._as_container([]), name=name)
        probe = self.container["startupProbe"]
        for _ in range(probe["failureThreshold"]):
            if self.probe("startupProbe"):
                return time.monotonic() - began
            if not self.sidecar.alive():
                break
            time.sleep(probe["periodSeconds"])
        raise ProcessError(f"{self.name}: the startup probe fails: {self.sidecar.output()[-2000:]}")

    def probe(self, name):
        """Whether a probe of the container passes, by its own command."""
        probe = self.container[name]
        command = probe["exec"]["command"]
        words = [self.cluster.world.sidegate if word == "/sidegate" else word for word in command]
        return run(self._as_container(words), probe["timeoutSeconds"])[0] == 0

    def in_sidegate(self, *words):
        """What `kubectl exec -c sidegate -- /sidegate ...` runs."""
        return run(self._as_container([self.cluster.world.sidegate, *words]), 20)

    def kill(self):
        self.sidecar.signal(signal.SIGKILL)
        self.sidecar.wait(5)

    # Everything else in it.

    def run(self, command, within=60, env=None, stdin=None):
        return run([*self.enter, *command], within, env={**os.environ, **(env or {})}, stdin=stdin)

    def load(self, server, names):
        """Starts eks_load.py in it, with the addresses that each name has; gives a call that ends the load and returns its summary."""
        words = [server, *(f"{name}={','.join(addresses)}" for name, addresses in names.items())]
        command = [str(word) for word in [*self.enter, "/usr/bin/python3", "-m", "harness.eks_load", *words]]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        # It says so once each of its askers has had its first answer.
        if child.stdout.readline().strip() != "under way":
            child.kill()
            raise ProcessError(f"{self.name}: the load does not come under way")

        def end():
            out, _ = child.communicate("\n", timeout=60)
            return out

        return end

    def stop(self):
        if self.sidecar:
            self.sidecar.stop(3)
        self.pause.stop(3)
        run(["ip", "netns", "delete", self.name])
        shutil.rmtree(self.home, ignore_errors=True)
