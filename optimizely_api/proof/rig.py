"""The processes of a proof: the services on new databases, gateways, and the balancer, with proxies between them."""

import asyncio
import contextlib
import random
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optimizely_api.comparison.options import Options as ComparisonOptions
from optimizely_api.comparison.rig import balancer as haproxy
from optimizely_api.comparison.rig.gateway import Gateway, Target
from optimizely_api.comparison.rig.modes import MODES
from optimizely_api.comparison.rig.processes import free_ports
from optimizely_api.comparison.rig.upstreams import ServiceProcesses
from optimizely_api.gateway.settings import Settings
from optimizely_api.proof.account import Account, make_account
from optimizely_api.proof.options import Options
from optimizely_api.proof.proxy import FaultProxy

_BIND = re.compile(r"^(\s*bind ).*$", re.MULTILINE)
_SERVER = re.compile(r"^( +server )(\S+) \S+ maxconn (\d+)(.*)$", re.MULTILINE)
DEADLINE_SECONDS = Settings.request_deadline_seconds


@dataclass(frozen=True)
class Rig:
    """What faults are done to: by name the services and their proxies, the gateways; and the balancer's port."""

    services: ServiceProcesses
    proxies: dict[str, FaultProxy]
    gateways: list[Gateway]
    port: int
    account: Account

    @property
    def gateway_urls(self) -> list[str]:
        return [f"http://127.0.0.1:{gateway.port}" for gateway in self.gateways]


@contextlib.asynccontextmanager
async def running_rig(options: Options, folder: Path) -> AsyncIterator[Rig]:
    """Run all of it until the block ends; raises CannotCompare when a process does not start."""
    balancer_path = haproxy.find()
    async with contextlib.AsyncExitStack() as stack:
        services = ServiceProcesses(folder)
        stack.callback(services.stop)
        await services.start_all()
        account = await make_account(services.urls, services.key)
        proxies = await _proxies(services, options.seed, stack)
        gateways = _gateways(options, folder, services, proxies, account)
        for gateway in gateways:
            stack.callback(gateway.stop)
        # In other threads: a start waits for a response without yielding to this event loop, which runs the proxies.
        await asyncio.gather(*(asyncio.to_thread(asyncio.run, gateway.start()) for gateway in gateways))
        (port,) = free_ports(1)
        text = balancer_text(
            options.balancer.read_text(), port, [gateway.port for gateway in gateways], options.workers
        )
        stack.callback(haproxy.run(balancer_path, folder, text, port).stop)
        yield Rig(services, proxies, gateways, port, account)


def balancer_text(text: str, port: int, gateway_ports: Sequence[int], workers: int) -> str:
    """HAProxy's configuration with this port, and a line for each gateway in place of each server's."""

    def lines(found: re.Match[str]) -> str:
        begin, name, places, rest = found.groups()
        return "\n".join(
            f"{begin}gateway{number} 127.0.0.1:{each} maxconn {int(places) * workers}"
            + rest.replace(name, f"gateway{number}")
            for number, each in enumerate(gateway_ports, start=1)
        )

    return _SERVER.sub(lines, _BIND.sub(f"\\g<1>127.0.0.1:{port}", text))


async def _proxies(
    services: ServiceProcesses, seed: int, stack: contextlib.AsyncExitStack
) -> dict[str, FaultProxy]:
    proxies = {
        name: FaultProxy(port, services.ports[name], random.Random(f"{seed}:{name}"))  # noqa: S311
        for name, port in zip(services.ports, free_ports(len(services.ports)), strict=True)
    }
    for proxy in proxies.values():
        stack.callback(proxy.refuse)
        await proxy.listen()
    return proxies


def _gateways(
    options: Options,
    folder: Path,
    services: ServiceProcesses,
    proxies: dict[str, FaultProxy],
    account: Account,
) -> list[Gateway]:
    addresses = {f"{name}_url": f"http://127.0.0.1:{proxy.port}" for name, proxy in proxies.items()}
    target = Target("/v2/projects", {"Authorization": f"Bearer {account.token}"})
    gateways = []
    for number, port in enumerate(free_ports(options.gateways)):
        # As shipped: with the caches that a comparison goes without.
        mode = replace(MODES["asyncio"], name=f"gateway-{number}", application={})
        own_folder = folder / mode.name
        own_folder.mkdir()
        gateways.append(
            Gateway(
                mode,
                ComparisonOptions(),
                own_folder,
                port,
                {**addresses, "services_key": services.key},
                target,
                workers=options.workers,
            )
        )
    return gateways
