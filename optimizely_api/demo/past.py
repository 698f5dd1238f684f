"""What the shop's people did in the weeks before the demo is loaded: entities, and changes with their dates.

Only the services take the time of a change (`at`), so that all of it is sent to them. Of what exists already nothing is
made again.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from optimizely_api.contract.times import format_time
from optimizely_api.demo import story
from optimizely_api.demo.client import ServiceClient

# The people of the shop, by their addresses.
ANA, BEN, IDA = (f"{name}@fern-and-oak.example" for name in ("ana", "ben", "ida"))
PEOPLE: tuple[dict[str, Any], ...] = (
    {"email": ANA, "first_name": "Ana", "last_name": "Lima", "is_administrator": True},
    {"email": BEN, "first_name": "Ben", "last_name": "Okafor", "is_administrator": False},
    {"email": IDA, "first_name": "Ida", "last_name": "Berg", "is_administrator": True},
)
EDITOR = BEN  # of every project
SITE = "https://shop.fern-and-oak.example"

Json = dict[str, Any]


def made_by(user_id: str, address: str) -> dict[str, str]:
    """The header that tells a service whose change it is."""
    return {"X-User": f"{user_id} {quote(address)}"}


class Past:
    """Makes and changes entities of a project, some days before the load."""

    def __init__(
        self, experiments: ServiceClient, owner: dict[str, int], now: datetime, user_ids: dict[str, str]
    ) -> None:
        self.experiments, self.owner, self.now, self.user_ids = experiments, owner, now, user_ids

    async def make(self, kind: str, days: float, by: str, **body: Any) -> int:
        """The id of the entity with the body's key, or its name where it has no key."""
        name = "key" if "key" in body else "name"
        for entity in await self.experiments.list_all(f"/{kind}", **self.owner):
            if entity.get(name) == body[name]:
                return int(entity["id"])
        _, made = await self._send("POST", f"/{kind}", days, by, {**self.owner, **body})
        return int(made["id"])

    async def pages(self, project: story.Project) -> dict[str, int]:
        """The ids of a project's pages, by their keys."""
        return {
            page.key: await self.make(
                "pages", 38, ANA, key=page.key, name=page.name, edit_url=f"{SITE}{page.path}"
            )
            for page in project.pages
        }

    async def change(self, kind: str, entity_id: int, days: float, by: str, **changes: Any) -> None:
        await self._send("PATCH", f"/{kind}/{entity_id}", days, by, changes)

    async def _send(self, method: str, path: str, days: float, by: str, body: Json) -> tuple[int, Json]:
        at = format_time(self.now.astimezone(UTC) - timedelta(days=days))
        return await self.experiments.call(
            method, path, expected={200, 201}, body=body, headers=made_by(self.user_ids[by], by), at=at
        )


def one_of(*leaves: Json) -> str:
    """The text of a condition that any of the leaves meets."""
    return json.dumps(["and", ["or", ["or", *leaves]]])


def customer_is(kind: str) -> str:
    """The text of the condition that a visitor is a customer of a kind."""
    return one_of({"type": "custom_attribute", "name": "customer", "match_type": "exact", "value": kind})


async def customer_attribute(past: Past) -> int:
    """The attribute that the events of the visitors carry."""
    description = "new, returning or club"
    return await past.make("attributes", 39, ANA, key="customer", name="customer", description=description)


async def shop(past: Past, experiments: dict[str, int], campaigns: dict[str, int]) -> None:
    """The web shop: audiences and an extension, and how its pages and experiments came to what they are."""
    pages = await past.pages(story.SHOP)
    front, product, cart = (pages[key] for key in (story.FRONT, story.PRODUCT, story.CART))
    await past.change("pages", product, 30, BEN, name="Product page", category="product_detail")
    await past.change("pages", cart, 30, BEN, category="cart")
    for device in ("mobile", "tablet"):
        leaf = {"type": "device", "value": device}
        await past.make("audiences", 36, ANA, name=f"Visitors on a {device}", conditions=one_of(leaf))
    returning = await past.make(
        "audiences", 35, ANA, name="Returning customers", conditions=customer_is("returning")
    )
    club = await past.make("audiences", 35, ANA, name="Club members", conditions=customer_is("club"))
    await past.change(
        "audiences", club, 21, IDA, description="Members of the club, who see new collections first."
    )
    await past.make(
        "extensions",
        28,
        BEN,
        name="Countdown banner",
        description="A strip above the page that counts down to the end of a sale.",
        edit_url=f"{SITE}/",
        fields=[
            {"api_name": "ends", "label": "Ends at", "field_type": "text", "default_value": '"2026-12-24"'},
            {
                "api_name": "text",
                "label": "Text",
                "field_type": "text",
                "default_value": '"The sale ends in"',
            },
        ],
        implementation={
            "html": "<div class='countdown'>{{ extension.text }}</div>",
            "css": ".countdown { height: 40px }",
        },
    )
    await past.change(
        "experiments",
        experiments["free_shipping_bar"],
        22,
        IDA,
        description="A thin bar that says from which amount on we ship for free leads to more orders (4.90 each).",
        page_ids=[front, product, cart],
    )
    await past.change("experiments", experiments["photos_first"], 18, BEN, page_ids=[product])
    for key, audience in (("welcome_back_last_seen", returning), ("welcome_back_club", club)):
        conditions = json.dumps(["or", {"audience_id": audience}])
        await past.change("experiments", experiments[key], 14, IDA, audience_conditions=conditions)
    await past.change(
        "layers",
        campaigns["Welcome back"],
        14,
        IDA,
        description="The front page, for those who know us.",
    )


async def order_api(past: Past, _experiments: dict[str, int], _campaigns: dict[str, int]) -> None:
    """The server that takes orders."""
    await past.make(
        "attributes",
        39,
        BEN,
        key="warehouse",
        name="warehouse",
        description="The nearest one: north or south",
    )
    club = await past.make("audiences", 33, BEN, name="Club members", conditions=customer_is("club"))
    await past.make(
        "audiences",
        33,
        BEN,
        name="Near the north warehouse",
        conditions=one_of(
            {"type": "custom_attribute", "name": "warehouse", "match_type": "exact", "value": "north"}
        ),
    )
    await past.change("audiences", club, 20, IDA, description="Their orders go first.")


async def app(past: Past, _experiments: dict[str, int], _campaigns: dict[str, int]) -> None:
    """The app."""
    await past.make("audiences", 25, IDA, name="New customers", conditions=customer_is("new"))


HAPPENED = {"Fern & Oak Shop": shop, "Fern & Oak Order API": order_api, "Fern & Oak App": app}
