"""Runs the official Python SDK, in that SDK's own environment. Commands and answers are lines of JSON."""

import json
import sys
import time

from optimizely.config_manager import PollingConfigManager
from optimizely.decision.optimizely_decide_option import OptimizelyDecideOption
from optimizely.event.event_processor import BatchEventProcessor
from optimizely.event_dispatcher import EventDispatcher
from optimizely.optimizely import Optimizely

SOON_SECONDS = 30
BATCH_SIZE = 10
QUIETLY = [OptimizelyDecideOption.DISABLE_DECISION_EVENT]


class Redirected:
    """Sends events as the SDK does, to another address."""

    def __init__(self, address):
        self.address = address

    def dispatch_event(self, event):
        """Send a batch."""
        event.url = self.address
        EventDispatcher.dispatch_event(event)


class Driver:
    """One client of the SDK at a time."""

    def open(self, command):
        """Poll a datafile, and send events in batches."""
        manager = PollingConfigManager(
            sdk_key=command["sdk_key"],
            url_template=command["python_template"],
            update_interval=command["seconds"],
        )
        self.processor = BatchEventProcessor(
            Redirected(command["events"]), batch_size=BATCH_SIZE, start_on_init=True
        )
        self.client = Optimizely(config_manager=manager, event_processor=self.processor)
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
        return self.for_each_user(
            command, lambda user: self.of_user(user, command["experiments"], command["flags"])
        )

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

    def visit(self, command):
        """Let users enter an experiment and convert, and write their variations; all events are sent at the end."""
        count = self.for_each_user(command, lambda user: self.visit_of(user, command["experiment"]))
        self.processor.stop()
        return count

    def visit_of(self, user, experiment):
        variation = self.client.activate(experiment, user["id"], user["attributes"])
        for key, tags in user["conversions"]:
            self.client.track(key, user["id"], user["attributes"], tags)
        return variation

    def for_each_user(self, command, outcome):
        with open(command["users"], encoding="utf-8") as file:
            users = json.load(file)
        found = [outcome(user) for user in users]
        with open(command["into"], "w", encoding="utf-8") as file:
            json.dump(found, file)
        return len(found)


driver = Driver()
for line in sys.stdin:
    order = json.loads(line)
    print(json.dumps({"answer": getattr(driver, order["do"])(order)}), flush=True)
