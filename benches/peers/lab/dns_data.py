"""What every contestant knows and what it is asked: the same each time."""

import random
import string

ZONE = "execute-api.us-east-1.amazonaws.com"
#: The endpoint's; never connected to.
ADDRESSES = ("10.20.0.11", "10.20.0.12")
PUBLIC = "example.com"
PRIVATE_IDS, UNKNOWN_IDS, NAMES = 1000, 200, 1000
#: Of the names in the mix, each as often private as public.
MIXED = 6000
A, AAAA, HTTPS = 1, 28, 65
#: What clients ask: those with IPv6 ask for both addresses, browsers for HTTPS besides.
TYPES, OFTEN = (A, AAAA, HTTPS), (3, 1, 1)
#: How many answers there must be. The public upstream has two, one and one.
PRIVATE_ANSWERS = {A: len(ADDRESSES), AAAA: 0, HTTPS: 0}
PUBLIC_ANSWERS = {A: 2, AAAA: 1, HTTPS: 1}


class Data:
    """The names, and the files of questions that the load reads."""

    def __init__(self, directory):
        self.directory = directory
        chance = random.Random(1)
        ids = set()
        while len(ids) < PRIVATE_IDS + UNKNOWN_IDS:
            ids.add("".join(chance.choices(string.ascii_lowercase + string.digits, k=10)))
        ids = sorted(ids)
        chance.shuffle(ids)
        self.ids = ids[:PRIVATE_IDS]
        self.private = [f"{name}.{ZONE}" for name in self.ids]
        self.public = [f"{name}.{ZONE}" for name in ids[PRIVATE_IDS:]]
        self.public += [f"host{number}.app{number % 37}.{PUBLIC}" for number in range(NAMES)]
        chance.shuffle(self.public)
        self._write("private", ((name, A, PRIVATE_ANSWERS) for name in self.private))
        self._write("cached", ((name, A, PUBLIC_ANSWERS) for name in self.public))
        self._write("mix", self._mixed(chance))
        # The load puts another label before each, each time.
        self._write("misses", ((f"app{number}.{PUBLIC}", A, PUBLIC_ANSWERS) for number in range(61)))
        # Everything that the mix may ask, so that it is cached.
        self._write("all", ((name, kind, PUBLIC_ANSWERS) for name in self.public for kind in TYPES))

    def questions(self, name):
        return self.directory / f"{name}.questions"

    def _mixed(self, chance):
        for turn in range(MIXED):
            names, answers = (self.private, PRIVATE_ANSWERS) if turn % 2 else (self.public, PUBLIC_ANSWERS)
            yield chance.choice(names), chance.choices(TYPES, OFTEN)[0], answers

    def _write(self, name, questions):
        with self.questions(name).open("w", encoding="ascii") as file:
            file.writelines(f"{name} {kind} {answers[kind]}\n" for name, kind, answers in questions)
