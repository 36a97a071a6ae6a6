"""What a CloudFormation template gives its containers, for the parts that play ECS: environment, user, order, health check.

tests/lint/embedded.py reads the templates; a part gives the parameters the values of its own world.
"""

import importlib.util

import yaml

from .world import PEERS

ROOT = PEERS.parents[2]
#: Whom the image runs as where a template says nothing: USER of the Dockerfile.
IMAGE_USER = "65532"


def _embedded():
    """The module of another folder of tests, which is no package."""
    found = importlib.util.spec_from_file_location("embedded", ROOT / "tests/lint/embedded.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


embedded = _embedded()


class Template:
    def __init__(self, path, **parameters):
        """`path` below config/; each parameter has to be one of the template's."""
        with open(ROOT / "config" / path, encoding="utf-8") as file:
            tree = yaml.load(file, embedded.Loader)
        self.parameters = tree["Parameters"]
        for name, value in parameters.items():
            self.parameters[name]["Default"] = value
        self.resources = tree["Resources"]
        self.containers = {one["Name"]: one for one in embedded.containers(self.resources)}

    def configuration(self, name):
        """Sidegate's variables in a container. The last of several: without what a condition adds."""
        *_, last = embedded.environments(self.containers[name], self.parameters)
        return last

    def variables(self, name):
        """All variables of a container that stand in the template as they are."""
        pairs = self.containers[name].get("Environment", [])
        return {pair["Name"]: pair["Value"] for pair in pairs if isinstance(pair["Value"], str)}

    def user(self, name):
        return self.containers[name].get("User", IMAGE_USER)

    def drops_capabilities(self, name):
        return self.containers[name].get("LinuxParameters", {}).get("Capabilities") == {"Drop": ["ALL"]}

    def system_controls(self):
        """`name=value` of every container: on ECS one network's settings hold for the whole task."""
        for container in self.containers.values():
            for setting in container.get("SystemControls", []):
                yield f"{setting['Namespace']}={setting['Value']}"

    def health_check(self, name):
        """The words after CMD, and how many seconds they may take."""
        check = self.containers[name]["HealthCheck"]
        return check["Command"][1:], check["Timeout"]
