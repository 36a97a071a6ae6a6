"""The forms of the command lines in README.md that name somebody else's program: subcommands, options, what they go on."""

import re
import shlex
from dataclasses import dataclass, field

#: An option without a value; one with a value of any kind; one that takes every word up to the next option.
FLAG, ANY, MANY = None, ".+", "many"
#: An image as `docker tag` takes it, with or without a registry.
IMAGE = r"[a-z0-9][a-z0-9.-]*(/[a-z0-9._-]+)*(:[\w.-]+)?"
#: `-n NAME`, and a workload by its kind.
NAME, WORKLOAD = r"[a-z0-9-]+", r"(deploy|deployment|daemonset|cronjob)/[a-z0-9-]+"
UNIT = r"[\w@-]+\.(service|socket)"
PATH = r"[\w./-]+"


@dataclass
class Form:
    """What one subcommand takes: options with the pattern of their value, those that must be there, and its operands."""

    options: dict = field(default_factory=dict)
    required: tuple = ()
    operand: str = ANY
    least: int = 0
    most: int = 0
    #: Whether a command may follow behind `--`.
    command: bool = False


#: By program and subcommand, what README uses of them and no more: a new line is looked up once, in the program's manual.
FORMS = {
    "aws cloudformation deploy": Form(
        {
            "--stack-name": r"[A-Za-z][A-Za-z0-9-]*",
            "--template-file": PATH,
            "--capabilities": r"CAPABILITY_(NAMED_)?IAM",
            "--parameter-overrides": MANY,
        },
        ("--stack-name", "--template-file"),
    ),
    "aws cloudformation describe-stacks": Form({"--stack-name": r"[A-Za-z][A-Za-z0-9-]*", "--query": r"Stacks\[0\]\.Outputs"}),
    "aws ecs run-task": Form(
        {
            "--cluster": ANY,
            "--launch-type": "FARGATE|EC2|EXTERNAL",
            "--task-definition": ANY,
            "--network-configuration": r"awsvpcConfiguration=\{subnets=\[[^]]+\],securityGroups=\[[^]]+\]\}",
        },
        ("--task-definition",),
    ),
    "cp": Form({"--remove-destination": FLAG}, (), PATH, 2, 2),
    "docker build": Form({"--tag": IMAGE}, ("--tag",), r"\.", 1, 1),
    "docker tag": Form({}, (), IMAGE, 2, 2),
    "docker push": Form({}, (), IMAGE, 1, 1),
    "docker-compose up": Form({"--file": PATH, "--exit-code-from": NAME}, ("--file",)),
    "install": Form({"-m": "[0-7]{3,4}", "-D": FLAG, "-d": FLAG}, (), PATH, 1, 9),
    "kubectl apply": Form({"-n": NAME, "-f": r"config/eks/[\w-]+\.yaml"}, ("-f",)),
    "kubectl create": Form({"-n": NAME, "-f": r"config/eks/[\w-]+\.yaml"}, ("-f",)),
    "kubectl create namespace": Form({}, (), NAME, 1, 1),
    "kubectl exec": Form({"-n": NAME, "-c": NAME}, ("-n",), WORKLOAD, 1, 1, command=True),
    "kubectl rollout status": Form({"-n": NAME}, ("-n",), WORKLOAD, 1, 1),
    "systemctl daemon-reload": Form(),
    "systemctl disable": Form({"--now": FLAG}, (), UNIT, 1, 9),
    "systemctl enable": Form({"--now": FLAG}, (), UNIT, 1, 9),
    "systemctl restart": Form({}, (), UNIT, 1, 9),
    "systemctl status": Form({}, (), UNIT, 1, 9),
}
PROGRAMS = {name.split()[0] for name in FORMS}


@dataclass
class Call:
    """A command line taken apart by its form."""

    name: str
    options: dict
    operands: list
    #: What stands behind `--`.
    command: list


def taken_apart(text):
    """The call, and what is wrong with it; no call where the subcommand is unknown."""
    words = shlex.split(text, comments=True)
    words, command = (words[: words.index("--")], words[words.index("--") + 1 :]) if "--" in words else (words, [])
    name = next((name for name in sorted(FORMS, key=len, reverse=True) if is_call(words, name)), None)
    if name is None:
        return None, [f"{words[0]} has no such subcommand, or none that forms.py knows"]
    # Options may stand before the subcommand.
    rest = list(words)
    for word in name.split():
        rest.remove(word)
    form, call, problems = FORMS[name], Call(name, {}, [], command), []
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            call.operands.append(word)
            continue
        option, glued, value = word.partition("=")
        if option not in form.options:
            problems.append(f"`{name}` has no option {option}, or none that forms.py knows")
            continue
        pattern = form.options[option]
        if pattern == MANY:
            value = []
            while rest and not rest[0].startswith("-"):
                value.append(rest.pop(0))
        elif pattern is not FLAG:
            value = value if glued else (rest.pop(0) if rest else "")
            if not re.fullmatch(pattern, value):
                problems.append(f"{option} does not take `{value}`")
        call.options[option] = value
    problems += [f"`{name}` needs {option}" for option in form.required if option not in call.options]
    problems += [f"`{name}` does not take `{word}`" for word in call.operands if not re.fullmatch(form.operand, word)]
    if not form.least <= len(call.operands) <= form.most:
        problems.append(f"`{name}` takes {form.least} to {form.most} operands, not {len(call.operands)}")
    if bool(command) != form.command:
        problems.append(f"`{name}` {'needs' if form.command else 'takes no'} command behind `--`")
    return call, problems


def is_call(words, name):
    """Whether these words are a call of this subcommand; an option with its value may stand in between."""
    program, *subcommands = name.split()
    if words[0] != program:
        return False
    at = 1
    for subcommand in subcommands:
        while at < len(words) and words[at].startswith("-"):
            at += 1 if "=" in words[at] else 2
        if at >= len(words) or words[at] != subcommand:
            return False
        at += 1
    return True
