"""Projects and users by chance: audiences of every match type, groups, feature tests, rollouts, whitelists, edits."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.sdk.conftest import Api

Json = dict[str, Any]

TEXTS = ["gold", "silver", "go", "Ünïcode ✓", ""]
NUMBERS = [0, 1, -1, 17, 17.5, 99.25, 10**9]
VERSIONS = ["1", "1.2", "2.0.1", "2.1.0", "3.7.1", "10.0.0"]
NUMERIC = ("gt", "ge", "lt", "le")
SEMANTIC = ("semver_eq", "semver_ge", "semver_gt", "semver_le", "semver_lt")
MATCHES = (None, "exact", "exists", "substring", *NUMERIC, *SEMANTIC)
ATTRIBUTES = ("plan", "age", "beta", "version", "size of it")
VARIABLES = {
    "limit": ("integer", ["10", "25", "-3"]),
    "rate": ("double", ["9.99", "0.5", "1e3"]),
    "dark": ("boolean", ["true", "false"]),
    "text": ("string", ["", "Ünïcode ✓", "25"]),
    "config": ("json", ['{"a": [1, 2]}', "[]", '{"b": null}']),
}


class RandomProject:
    """A project made over REST, from a random state alone."""

    def __init__(self, api: Api, chance: random.Random) -> None:
        self.api, self.chance = api, chance
        self.matches: set[str | None] = set()
        project = api.project()
        self.environment = project["environments"]["production"]
        self.owner = {"project_id": project["id"]}
        for key in ATTRIBUTES:
            api.made("/attributes", key=key, **self.owner)
        self.audiences = [self._audience(number) for number in range(chance.randint(4, 7))]
        self.features = [self._feature(number) for number in range(3)]
        self.experiments = [self._experiment(number) for number in range(chance.randint(5, 8))]
        self._group()
        for _ in range(6):
            self._edit(chance.choice(self.experiments))

    def users(self, count: int) -> list[Json]:
        """Users, some of them on whitelists, with attributes of every type, fitting or not."""
        return [
            {"id": self._user_id(number), "attributes": self._attributes(number)} for number in range(count)
        ]

    def _user_id(self, number: int) -> str:
        return f"vip-{number}" if number < 20 else f"{self.chance.choice(['user', 'ü', '漢字', ''])}{number}"

    def _attributes(self, number: int) -> Json:
        values: list[Any] = [*TEXTS, *NUMBERS, *VERSIONS, True, False, None]
        given = {key: self.chance.choice(values) for key in ATTRIBUTES if self.chance.random() < 0.8}
        # Most of the time what an attribute is meant to hold.
        fitting = {
            "plan": self.chance.choice(TEXTS),
            "age": self.chance.choice(NUMBERS),
            "beta": self.chance.random() < 0.5,
            "version": self.chance.choice(VERSIONS),
        }
        given |= {key: value for key, value in fitting.items() if self.chance.random() < 0.6}
        if number % 10 == 0:
            given["$opt_bucketing_id"] = f"household-{number // 20}"
        return given

    def _leaf(self) -> Json:
        match = self.chance.choice(MATCHES)
        self.matches.add(match)
        leaf: Json = {"type": "custom_attribute", "name": self.chance.choice(ATTRIBUTES)}
        if match is not None:
            leaf["match_type"] = match
        if match in NUMERIC:
            leaf |= {"name": "age", "value": self.chance.choice(NUMBERS)}
        elif match in SEMANTIC:
            leaf |= {"name": "version", "value": self.chance.choice(VERSIONS)}
        elif match == "substring":
            leaf |= {"name": "plan", "value": self.chance.choice(["go", "l", "✓"])}
        elif match != "exists":
            name, values = self.chance.choice(
                [
                    ("plan", TEXTS),
                    ("age", NUMBERS),
                    ("beta", [True, False]),
                    ("size of it", [*TEXTS, *NUMBERS]),
                ]
            )
            leaf |= {"name": name, "value": self.chance.choice(values)}
        return leaf

    def _tree(self, leaf: Any, depth: int = 0) -> list[Any]:
        operator = self.chance.choice(["and", "or", "or", "not"])
        count = 1 if operator == "not" else self.chance.randint(1, 3)
        deeper = [depth < 2 and self.chance.random() < 0.4 for _ in range(count)]
        return [operator, *(self._tree(leaf, depth + 1) if more else leaf() for more in deeper)]

    def _audience(self, number: int) -> Json:
        tree = [] if self.chance.random() < 0.1 else self._tree(self._leaf)
        name, text = f"Audience {number} ✓", json.dumps(tree)
        made: Json = self.api.made("/audiences", name=name, conditions=text, **self.owner)
        return made

    def _conditions(self) -> str:
        if self.chance.random() < 0.3:
            return "everyone"
        return json.dumps(self._tree(lambda: {"audience_id": self.chance.choice(self.audiences)["id"]}))

    def _values(self, names: list[str]) -> dict[str, str]:
        chosen = [name for name in names if self.chance.random() < 0.5]
        return {name: self.chance.choice(VARIABLES[name][1]) for name in chosen}

    def _rule(self, names: list[str]) -> Json:
        return {
            "enabled": self.chance.random() < 0.8,
            "percentage_included": self.chance.choice([0, 1, 500, 5000, 9999, 10000]),
            "audience_conditions": self._conditions(),
            "variable_values": self._values(names),
        }

    def _feature(self, number: int) -> Json:
        names = self.chance.sample(sorted(VARIABLES), self.chance.randint(0, 5))
        variables = [
            {"key": name, "type": VARIABLES[name][0], "default_value": VARIABLES[name][1][0]}
            for name in names
        ]
        production = {"rollout_rules": [self._rule(names)]}
        made: Json = self.api.made(
            "/features",
            key=f"feature_{number}",
            variables=variables,
            environments={"production": production},
            **self.owner,
        )
        return made

    def _weights(self, count: int) -> list[int]:
        cuts = sorted(self.chance.choice([0, self.chance.randint(0, 10_000)]) for _ in range(count - 1))
        return [end - start for start, end in zip([0, *cuts], [*cuts, 10_000], strict=True)]

    def _experiment(self, number: int) -> Json:
        feature = self.chance.choice(self.features) if self.chance.random() < 0.4 else None
        variations: list[Json] = [
            {"key": f"variation_{place}", "weight": weight}
            for place, weight in enumerate(self._weights(self.chance.randint(1, 4)))
        ]
        further: Json = {}
        if feature:
            names = [variable["key"] for variable in feature["variables"]]
            further["feature_id"] = feature["id"]
            for variation in variations:
                variation["feature_enabled"] = self.chance.random() < 0.7
                variation["variable_values"] = self._values(names)
        made: Json = self.api.made(
            "/experiments" + self.chance.choice(["?action=start"] * 4 + [""]),
            key=f"experiment_{number}",
            variations=variations,
            audience_conditions=self._conditions(),
            traffic_allocation=self.chance.choice([10000, 10000, 5000, 333]),
            **further,
            **self.owner,
        )
        if self.chance.random() < 0.5:
            variation_ids = [one["variation_id"] for one in made["variations"]]
            whitelist = [
                {"user_id": f"vip-{vip}", "variation_id": self.chance.choice(variation_ids)}
                for vip in range(5)
            ]
            self.api.patched(f"/experiments/{made['id']}", whitelist=whitelist)
        return made

    def _group(self) -> None:
        members = self.chance.sample(self.experiments, 3)
        weights = self._weights(4)[:3]
        entities = [
            {"kind": "Experiment", "id": one["id"], "weight": weight}
            for one, weight in zip(members, weights, strict=True)
        ]
        self.api.made("/groups", name="Exclusive", entities=entities, **self.owner)

    def _edit(self, experiment: Json) -> None:
        address = f"/experiments/{experiment['id']}"
        present = self.api.got(address)
        kind = self.chance.choice(["traffic", "traffic", "weights", "status", "state"])
        if kind == "traffic":
            traffic = self.chance.choice([10000, 2000, 7777])
            self.api.patched(address, traffic_allocation=traffic, holdback=10000 - traffic)
        elif kind == "weights":
            weights = self._weights(len(present["variations"]))
            self._change_variations(address, present, [{"weight": weight} for weight in weights])
        elif kind == "status" and len(present["variations"]) > 1:
            status = self.chance.choice(["paused", "active"])
            self._change_variations(address, present, [{"status": status}])
        elif kind == "state" and present["status"] == "running":
            self.api.patched(f"{address}?action=pause")

    def _change_variations(self, address: str, present: Json, changes: list[Json]) -> None:
        changed = [
            {**variation, **(changes[number] if number < len(changes) else {})}
            for number, variation in enumerate(present["variations"])
        ]
        self.api.patched(address, variations=changed)
