"""Decides with the official Python SDK; runs in that SDK's own environment. Commands and answers are lines of JSON."""

import json
import sys
import time

from optimizely.config_manager import PollingConfigManager
from optimizely.decision.optimizely_decide_option import OptimizelyDecideOption
from optimizely.optimizely import Optimizely

SOON_SECONDS = 30
QUIETLY = [OptimizelyDecideOption.DISABLE_DECISION_EVENT]


class Driver:
    """One client of the SDK at a time."""

    def open(self, command):
        """Poll a datafile."""
        manager = PollingConfigManager(
            sdk_key=command["sdk_key"],
            url_template=command["python_template"],
            update_interval=command["seconds"],
        )
        self.client = Optimizely(config_manager=manager)
        # The SDK itself waits for ten seconds, which a busy machine may not keep to.
        last = time.monotonic() + SOON_SECONDS
        while manager.get_config() is None and time.monotonic() < last:
            time.sleep(0.02)
        return manager.get_config().revision

    def load(self, command):
        """Use the datafile in a file; a datafile that the SDK refuses has no revision."""
        with open(command["file"], encoding="utf-8") as file:
            self.client = Optimizely(datafile=file.read())
        config = self.client.config_manager.get_config()
        return config and config.revision

    def wait(self, command):
        """Wait until the client has a revision."""
        last = time.monotonic() + SOON_SECONDS
        while time.monotonic() < last:
            if self.client.config_manager.get_config().revision == command["revision"]:
                return command["revision"]
            time.sleep(0.02)
        return None

    def decide(self, command):
        """Write what each user gets: variations by experiment, and decisions by flag."""
        with open(command["users"], encoding="utf-8") as file:
            users = json.load(file)
        found = [self.of_user(user, command["experiments"], command["flags"]) for user in users]
        with open(command["into"], "w", encoding="utf-8") as file:
            json.dump(found, file)
        return len(found)

    def of_user(self, user, experiments, flags):
        context = self.client.create_user_context(user["id"], user["attributes"])
        decisions = {key: context.decide(key, QUIETLY) for key in flags}
        return {
            "experiments": {
                key: self.client.get_variation(key, user["id"], user["attributes"]) for key in experiments
            },
            "flags": {
                key: [one.variation_key, one.rule_key, one.enabled, one.variables]
                for key, one in decisions.items()
            },
        }

    def close(self, command):
        self.client.close()


driver = Driver()
for line in sys.stdin:
    order = json.loads(line)
    print(json.dumps({"answer": getattr(driver, order["do"])(order)}), flush=True)
