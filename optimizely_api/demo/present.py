"""What is made at the moment of the load, by the public operations and a token, as any caller of the API would.

Of what exists already nothing is made again.
"""

from __future__ import annotations

import json
from typing import Any

from optimizely_api.demo.client import ServiceClient
from optimizely_api.demo.past import IDA

PER_PAGE = 100
USER = IDA  # whose token makes it: the history of changes names her
# A port of this machine: nothing of the demo is sent to anybody else.
RECEIVER = "http://127.0.0.1:8787"

Json = dict[str, Any]


class Present:
    """Makes entities by `/v2`."""

    def __init__(self, gateway: ServiceClient, token: str) -> None:
        self.gateway, self.headers = gateway, {"Authorization": f"Bearer {token}"}

    async def ids(self, path: str, **params: Any) -> dict[str, int]:
        """The ids of a list's entities, by their keys, or their names."""
        return {item.get("key") or item["name"]: item["id"] for item in await self._list(path, **params)}

    async def make(self, path: str, listed: str = "", *, by: str = "", **body: Any) -> Json:
        """An entity of the list `listed`, of its project, made at `path` unless one has the same name.

        `by` is the member that names it: the key, or the name where it has no key.
        """
        by = by or ("key" if "key" in body else "name")
        project = {"project_id": body["project_id"]} if "project_id" in body and not listed else {}
        for item in await self._list(listed or path, **project):
            if item.get(by) == body[by]:
                return item
        _, made = await self.gateway.call("POST", path, expected={201}, body=body, headers=self.headers)
        return dict(made)

    async def change(self, path: str, **changes: Any) -> None:
        await self.gateway.call("PATCH", path, expected={200}, body=changes, headers=self.headers)

    async def _list(self, path: str, **params: Any) -> list[Json]:
        _, items = await self.gateway.call(
            "GET", path, expected={200}, headers=self.headers, **params, per_page=PER_PAGE
        )
        return list(items)


async def shop(present: Present, project_id: int, experiments: dict[str, int]) -> None:
    """The web shop: clicks, a list of readers, a mix on the front page, and two experiments that exclude each other."""
    pages = await present.ids("/pages", project_id=project_id)
    for page, key, name, selector in (
        ("product_page", "cart_button_clicked", "Cart button clicked", "#add-to-cart"),
        ("cart", "checkout_button_clicked", "Checkout button clicked", "#checkout"),
    ):
        await present.make(
            f"/pages/{pages[page]}/events",
            f"/events?project_id={project_id}",
            key=key,
            name=name,
            event_type="click",
            config={"selector": selector},
        )
    await present.make(
        "/list_attributes",
        project_id=project_id,
        name="newsletter_readers",
        description="Readers who came from the newsletter, by their cookie.",
        key_field="newsletter_id",
        list_type="cookies",
        list_content="n-1042,n-1077,n-2210",
    )
    mix = await present.make(
        "/experiments",
        project_id=project_id,
        by="name",
        name="Front page: headline and picture",
        type="multivariate",
        page_ids=[pages["front_page"]],
    )
    for name, choices in (("Headline", ("Furniture", "Green rooms")), ("Picture", ("Sofa", "Plants"))):
        weights = [{"name": choice, "weight": 5000, "actions": []} for choice in choices]
        await present.make(f"/experiments/{mix['id']}/sections", name=name, variations=weights)
    await _group(
        present, project_id, "Product page", experiments["photos_first"], experiments["gift_wrap_offer"]
    )
    await _webhook(present, project_id, "Shop")


async def order_api(present: Present, project_id: int, experiments: dict[str, int]) -> None:
    """The server that takes orders: another environment, and features that are rolled out."""
    await present.make(
        "/environments",
        project_id=project_id,
        key="staging",
        name="Staging",
        description="As production, with orders of our own.",
    )
    audiences = await present.ids("/audiences", project_id=project_id)
    club = json.dumps(["or", {"audience_id": audiences["Club members"]}])
    variables = [
        {"key": "latest_hour", "type": "integer", "default_value": "11"},
        {"key": "fee", "type": "double", "default_value": "4.9"},
        {"key": "label", "type": "string", "default_value": "Today"},
    ]
    same_day = await present.make(
        "/features",
        project_id=project_id,
        key="same_day_delivery",
        name="Same-day delivery",
        description="Orders before noon come in the evening.",
        variables=variables,
        environments=_rollouts(club, production=500, staging=10_000, development=10_000),
    )
    await present.change(f"/features/{same_day['id']}", environments=_rollouts(club, production=2_500))
    for key, name, share in (
        ("carrier_tracking", "Carrier tracking", 10_000),
        ("pay_by_invoice", "Pay by invoice", 0),
    ):
        await present.make(
            "/features",
            project_id=project_id,
            key=key,
            name=name,
            environments=_rollouts("everyone", production=share),
        )
    await _group(present, project_id, "Delivery", experiments["delivery_slot_ranking"])
    await _webhook(present, project_id, "Order server")


async def app(present: Present, project_id: int, experiments: dict[str, int]) -> None:
    """The app."""
    environments = _rollouts("everyone", production=1_000, development=10_000)
    await present.make(
        "/features",
        project_id=project_id,
        key="room_preview",
        name="Furniture in your room",
        environments=environments,
    )
    keys = ("wish_list_tab", "onboarding_three_steps")
    await _group(present, project_id, "Start screen", *(experiments[key] for key in keys))
    await _webhook(present, project_id, "App")


async def account(present: Present) -> None:
    """What persons asked of the account."""
    requests = (("visitor", "fullstack_id", "visitor-0042"), ("user", "email", "someone@mail.example"))
    for data_type, identifier_type, identifier in requests:
        await present.make(
            "/subject-access-requests",
            by="identifier",
            data_type=data_type,
            identifier_type=identifier_type,
            identifier=identifier,
            request_type="access",
        )


def _rollouts(audience_conditions: str, **shares: int) -> Json:
    """The `environments` of a feature: the share of the audience in each, in hundredths of a percent; 0 is off."""
    return {
        key: {
            "rollout_rules": [
                {
                    "audience_conditions": audience_conditions,
                    "enabled": share > 0,
                    "percentage_included": share,
                }
            ]
        }
        for key, share in shares.items()
    }


async def _group(present: Present, project_id: int, name: str, *experiment_ids: int) -> None:
    share = 10_000 // len(experiment_ids)
    members = [{"kind": "Experiment", "id": one, "weight": share} for one in experiment_ids]
    await present.make("/groups", project_id=project_id, name=name, entities=members)


async def _webhook(present: Present, project_id: int, name: str) -> None:
    path = f"/projects/{project_id}/webhooks"
    await present.make(path, path, project_id=project_id, name=name, url=f"{RECEIVER}/datafile-updated")


FURNISH = {"Fern & Oak Shop": shop, "Fern & Oak Order API": order_api, "Fern & Oak App": app}
