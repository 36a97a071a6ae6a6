"""The commands in README.md and in the manifests: those of kubectl by their shape, those of a shell by running them."""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

#: Words of kubectl that the page uses, and kinds by their short forms.
VERBS = {"apply", "create", "delete", "edit", "exec", "get", "logs", "rollout", "run"}
KINDS = {
    "deploy": "Deployment",
    "deployment": "Deployment",
    "daemonset": "DaemonSet",
    "cronjob": "CronJob",
    "configmap": "ConfigMap",
}
#: Of the cluster.
GIVEN = {("kube-system", "ConfigMap", "coredns")}
#: A kubectl that writes down what it is asked for.
STUB = """#!/bin/sh
printf '%s\\n' "$*" >>"$CALLS"
[ "$1" = create ] || cat >>"$CALLS"
"""


def lines_of(folder):
    text = (folder / "README.md").read_text(encoding="utf-8")
    return [*re.findall(r"^\s*(kubectl .*)$", text, re.M), *re.findall(r"`(kubectl [^`]+)`", text)]


def kubectl(folder, documents):
    """Problems of the page's lines, in their order: what one makes is there for the next."""
    root, made = folder.parents[1], {"kube-system"}
    for line in lines_of(folder):
        yield from wrong_in(line, root, documents, made)
        made |= makes(line, root)
    for document in documents:
        namespace = document["metadata"].get("namespace")
        if namespace and namespace not in made:
            yield f"{document['kind']} {document['metadata']['name']}: no line makes the namespace {namespace}"


def makes(line, root):
    """The namespaces that a line makes, by name or by a file."""
    if named := re.match(r"kubectl create namespace (\S+)$", line):
        return {named[1]}
    if applied := re.match(r"kubectl (?:apply|create) .*-f (\S+)", line):
        path = root / applied[1]
        documents = yaml.safe_load_all(path.read_text(encoding="utf-8")) if path.is_file() else []
        return {document["metadata"]["name"] for document in documents if document["kind"] == "Namespace"}
    return set()


def wrong_in(line, root, documents, namespaces):
    """What one line names that there is not. Its files are named from the repository's root."""
    words, _, _ = line.partition(" -- ")
    words = shlex.split(words, comments=True)[1:]
    if words[0] not in VERBS:
        yield f"{line}: {words[0]}"
    namespace = words[words.index("-n") + 1] if "-n" in words else None
    if namespace and namespace not in namespaces:
        yield f"{line}: no namespace {namespace}"
    if "-f" in words:
        file = words[words.index("-f") + 1]
        if not (root / file).is_file():
            yield f"{line}: no such file"
        # Applied again, the file's list would come in place of what the job has published.
        if words[0] == "apply" and Path(file).name == "private-ids.yaml":
            yield f"{line}: create, not apply"
    targets = [word.removeprefix("--from=") for word in words if re.fullmatch(r"(--from=)?[a-z]+/[a-z][a-z0-9-]*", word)]
    targets += [f"{kind}/{words[-1]}" for kind in words if kind in KINDS and words[-1] != kind]
    for target in targets:
        kind, name = target.split("/")
        if kind == "job":
            continue
        found = [
            document
            for document in documents
            if (document["kind"], document["metadata"]["name"]) == (KINDS.get(kind), name)
            # What says no namespace is put where -n says.
            and document["metadata"].get("namespace", namespace) == namespace
        ]
        if not found and (namespace, KINDS.get(kind), name) not in GIVEN:
            yield f"{line}: no {target} in {namespace}"
        elif "-c" in words and found:
            pod = found[0]["spec"]["template"]["spec"]
            names = [container["name"] for container in [*pod.get("initContainers", []), *pod["containers"]]]
            if words[words.index("-c") + 1] not in names:
                yield f"{line}: no such container in {names}"


def replaced(folder, mine):
    """Copies the manifests to `mine`, a config/eks, runs the page's sed from its root, and says which values have stayed."""
    for path in folder.iterdir():
        if path.suffix in (".yaml", ".corefile"):
            shutil.copy(path, mine)
    text = (folder / "README.md").read_text(encoding="utf-8")
    script = re.search(r"```sh\n(.*?)```", text, re.S)[1]
    done = subprocess.run(["bash", "-ec", script], cwd=mine.parents[1], capture_output=True, text=True, check=False)
    if done.returncode or done.stderr:
        yield f"exit {done.returncode}: {done.stderr}"
    for path in mine.iterdir():
        for value in ("us-east-1", "172.20", "20.172", "registry.example/sidegate", "registry.example/orders", "a1b2c3d4e5"):
            if value in path.read_text(encoding="utf-8"):
                yield f"{path.name} still has {value}"


def publishes(documents):
    """Runs the job's last container with a stand-in for kubectl."""
    job = next(document for document in documents if document["kind"] == "CronJob")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    with tempfile.TemporaryDirectory() as home:
        stub, calls = Path(home) / "kubectl", Path(home) / "calls"
        stub.write_text(STUB, encoding="utf-8")
        stub.chmod(0o755)
        environment |= {"PATH": f"{home}:{os.environ['PATH']}", "CALLS": str(calls), "HOME": home}
        done = subprocess.run(container["command"], env=environment, capture_output=True, text=True, check=False)
        said = calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []
    if done.returncode:
        yield f"exit {done.returncode}: {done.stderr}"
    wanted = [f"replace -n {namespace} -f -" for namespace in environment["NAMESPACES"].split()]
    if sorted(line for line in said if line.startswith("replace")) != sorted(wanted):
        yield f"asked for {said}"
    role = next(document for document in documents if document["kind"] == "Role")
    allowed = [(rule["resources"], rule["resourceNames"], sorted(rule["verbs"])) for rule in role["rules"]]
    if allowed != [(["configmaps"], ["sidegate-private-ids"], ["get", "update"])]:
        yield f"the role allows {allowed}"
