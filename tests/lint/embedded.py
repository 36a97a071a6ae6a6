"""Checks each Sidegate configuration that a CloudFormation template carries in a container's environment, and by rules.py
what the template says around it.

`run` calls it with the binary and the templates, tests/interop imports it. A template's parameters count with their
defaults, and each branch of a condition is a configuration of its own. What CloudFormation alone knows is a region.
"""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import yaml

#: For parameters without a default.
SAMPLES = {
    "EndpointId": "vpce-0123456789abcdef0",
    "EndpointDnsName": "vpce-0123456789abcdef0-abcdefgh.execute-api.us-east-1.vpce.amazonaws.com",
    "AWS::Region": "us-east-1",
}
#: Settings that every shipped task has to have, whatever else it says.
REQUIRED = re.compile(r'^default = "vpc"$', re.MULTILINE)


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, as {"Fn": value}."""


def short_form(loader, suffix, node):
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    return {suffix: loader.construct_mapping(node, deep=True)}


Loader.add_multi_constructor("!", short_form)


def values(value, parameters):
    """Everything that a value may come to."""
    match value:
        case {"Ref": name}:
            return [str(parameters.get(name, {}).get("Default", SAMPLES.get(name, "none")))]
        case {"Sub": str(text)}:
            def of(found):
                return values({"Ref": found.group(1)}, parameters)[0]

            return [re.sub(r"\$\{([A-Za-z:]+)\}", of, text)]
        case {"If": [_, yes, no]}:
            return values(yes, parameters) + values(no, parameters)
        case dict():
            raise SystemExit(f"a form of value that tests/lint/embedded.py does not know: {value}")
    return [str(value)]


def containers(node):
    """Every container definition below a node."""
    if isinstance(node, dict):
        yield from node.get("ContainerDefinitions", [])
        node = list(node.values())
    if isinstance(node, list):
        for one in node:
            yield from containers(one)


def environments(container, parameters):
    """Every environment that the container may have, of Sidegate's variables."""
    pairs = [(pair["Name"], pair["Value"]) for pair in container.get("Environment", [])]
    pairs = [(name, values(value, parameters)) for name, value in pairs if name.startswith("SIDEGATE_")]
    for chosen in itertools.product(*(choices for _, choices in pairs)):
        yield dict(zip((name for name, _ in pairs), chosen))


def main(sidegate, *templates):
    # It imports this module in turn.
    import rules

    wrong, total, trees = 0, 0, {}
    for template in templates:
        with open(template, encoding="utf-8") as file:
            tree = yaml.load(file, Loader)
        checked = 0
        for container in containers(tree["Resources"]):
            for environment in environments(container, tree.get("Parameters", {})):
                if not environment:
                    continue
                checked += 1
                text = environment.get("SIDEGATE_CONFIG_TOML", "")
                done = subprocess.run(
                    [sidegate, "check"], env={"AWS_REGION": "us-east-1", **environment}, capture_output=True, text=True
                )
                where = f"{template}, container {container['Name']}"
                if done.returncode or done.stderr:
                    wrong += 1
                    print(f"{where}: exit {done.returncode}\n{done.stderr}{text}", file=sys.stderr)
                if not REQUIRED.search(text) and environment.get("SIDEGATE_UPSTREAM__DEFAULT") != "vpc":
                    wrong += 1
                    print(f'{where}: upstream.default is not "vpc"', file=sys.stderr)
        trees[Path(template).name] = tree
        for problem in rules.check_all(tree):
            wrong += 1
            print(f"{template}: {problem}", file=sys.stderr)
        total += checked
        print(f"sidegate check: {template}, configurations in it: {checked}")
    for unseen in rules.planted(trees):
        wrong += 1
        print(f"tests/lint/rules.py does not find: {unseen}", file=sys.stderr)
    if not total:
        print("no Sidegate configuration in any template", file=sys.stderr)
    return 1 if wrong or not total else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
