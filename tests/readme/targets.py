"""Whether what README.md's command lines name is there: files, units, parameters of templates, services, workloads."""

import re
import sys
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests" / "manifests"))
import commands as manifests  # noqa: E402

MANIFESTS = ROOT / "config" / "eks"
#: Units that are the system's own.
OF_THE_SYSTEM = {"systemd-resolved.service"}
#: What a line before has built.
BUILT = {"target/release/sidegate"}


class Template(yaml.SafeLoader):
    """CloudFormation's tags (`!Ref` and the like) say nothing about parameters."""


Template.add_multi_constructor("!", lambda loader, suffix, node: None)


@cache
def documents_of(path):
    """The documents of a manifest."""
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


class Targets:
    """Goes with one reading of the page, from top to bottom: a stack that was made keeps its parameters, a namespace is there
    once it was made."""

    def __init__(self, text):
        self.stacks, self.namespaces = {}, {"kube-system"}
        #: The words behind `sidegate` in the table of commands.
        self.commands = set(re.findall(r"^\| `sidegate ([a-z-]+)", text, re.M))
        self.manifests = [document for path in sorted(MANIFESTS.glob("*.yaml")) for document in documents_of(path)]

    def missing(self, call, text):
        """What this line names and is not there."""
        yield from missing_files(text)
        program = call.name.split()[0]
        if program == "systemctl":
            ours = {path.name for path in (ROOT / "config" / "systemd").iterdir()} | OF_THE_SYSTEM
            yield from (f"there is no unit {unit}" for unit in call.operands if unit not in ours)
        elif program == "kubectl":
            yield from manifests.wrong_in(text, ROOT, self.manifests, self.namespaces)
            self.namespaces |= manifests.makes(text, ROOT)
            yield from self.wrong_namespaces(ROOT / call.options.get("-f", ""))
            if call.command and (call.command[0] != "/sidegate" or call.command[1] not in self.commands):
                yield f"the image has no `{' '.join(call.command[:2])}`"
        elif program == "install":
            yield from wrong_in_install(call)
        elif call.name == "aws cloudformation describe-stacks":
            if call.options.get("--stack-name") not in {name for name, _ in self.stacks}:
                yield "no line makes this stack"
        elif call.name == "aws cloudformation deploy" and (ROOT / call.options.get("--template-file", "")).is_file():
            yield from self.wrong_in_deploy(call)
        elif program == "docker-compose" and (ROOT / call.options.get("--file", "")).is_file():
            services = yaml.safe_load((ROOT / call.options["--file"]).read_text(encoding="utf-8"))["services"]
            named = call.options.get("--exit-code-from")
            if named is not None and named not in services:
                yield f"there is no service {named}"

    def wrong_namespaces(self, path):
        """What a file puts into a namespace that no line has made."""
        used = {document["metadata"].get("namespace") for document in (documents_of(path) if path.is_file() else [])}
        yield from (f"no line makes the namespace {name}" for name in sorted(used - {None} - self.namespaces))

    def wrong_in_deploy(self, call):
        """Parameters against those of the template."""
        name, stack = call.options["--template-file"], call.options.get("--stack-name")
        template = yaml.load((ROOT / name).read_text(encoding="utf-8"), Template)  # noqa: S506
        parameters, given = template["Parameters"], self.stacks.setdefault((stack, name), set())
        for word in call.options.get("--parameter-overrides", []):
            parameter, equals, value = word.partition("=")
            given.add(parameter)
            if not equals or parameter not in parameters:
                yield f"{name} has no parameter {parameter}"
            elif value not in parameters[parameter].get("AllowedValues", [value]):
                yield f"{parameter} is one of {parameters[parameter]['AllowedValues']}"
        needed = {parameter for parameter, about in parameters.items() if "Default" not in about}
        yield from (f"{name} needs {parameter}" for parameter in sorted(needed - given))
        kinds = {resource["Type"] for resource in template["Resources"].values()}
        if "AWS::IAM::Role" in kinds and "--capabilities" not in call.options:
            yield f"{name} makes roles: --capabilities"


def missing_files(text):
    """The files of this repository that a line names and that are not there."""
    named = re.findall(r"(?:file://|\s)((?:config|tests|target)/[\w./-]+)", text)
    return [f"there is no {path}" for path in named if path not in BUILT and not (ROOT / path).exists()]


def wrong_in_install(call):
    """`install SOURCE TARGET`, `install SOURCE... FOLDER/`, `install -d FOLDER`."""
    *sources, target = call.operands or [""]
    if not target.startswith("/"):
        yield f"`{target}` is no place on the host"
    if "-d" in call.options:
        if sources:
            yield "-d makes folders and copies nothing"
        return
    if not sources:
        yield "nothing to install"
    if len(sources) > 1 and not target.endswith("/"):
        yield f"several files go into a folder, not into {target}"
    yield from (f"`{source}` is nothing of ours" for source in sources if not re.match("(config|target)/", source))
