"""How faults are carried out on the processes of a proof."""

import random
from types import SimpleNamespace

from optimizely_api.comparison.options import CannotCompare
from optimizely_api.proof import injection
from optimizely_api.proof.faults import Fault
from optimizely_api.proof.injection import Injector


class Ended:
    """A service's process that has ended."""

    running = False

    def send_signal_to_all(self, number):
        pass


class FullAtFirst:
    """Services that end at their first start, as on a full disk."""

    def __init__(self):
        self.processes, self.starts = {"results": Ended()}, 0

    def start(self, name):
        self.starts += 1

    async def until_listening(self, name):
        if self.starts == 1:
            raise CannotCompare("The results service did not start")


class Proxy:
    listens = True

    def refuse(self):
        self.listens = False

    async def listen(self):
        self.listens = True


async def test_a_service_that_cannot_start_on_a_full_disk_is_started_again(monkeypatch):
    monkeypatch.setattr(injection, "AGAIN_SECONDS", 0.01)
    services, proxy = FullAtFirst(), Proxy()
    rig = SimpleNamespace(services=services, proxies={"results": proxy}, gateways=[])
    await Injector(rig, random.Random(1)).carry_out(
        [Fault("kill-service", at=0.0, seconds=0.01, target="results")]
    )
    assert (services.starts, proxy.listens) == (2, True)
