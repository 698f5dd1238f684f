"""Pages that experiments and campaigns bring along: each `url_targeting` has one, for nobody else.

The page follows its owner's `url_targeting`, whose `page_id` is its id, and is archived with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.services.experiments.pages import PAGES, default_conditions
from optimizely_api.services.http.errors import ServiceError, field_errors

Json = dict[str, Any]

NAME = "url_targeting"
SHOWN = ("activation_code", "activation_type", "conditions", "edit_url")  # a page's, in `url_targeting`


def page_id_of(document: Mapping[str, Any]) -> int | None:
    """The page of the document's `url_targeting`, if it has one."""
    page_id: int | None = document.get(NAME, {}).get("page_id")
    return page_id


def as_sent(shown: Json, changes: Mapping[str, Any]) -> Json:
    """What is shown, without the page's id in `url_targeting`, where a body cannot have it."""
    if NAME not in shown or NAME not in changes:
        return shown
    return {**shown, NAME: {name: value for name, value in shown[NAME].items() if name != "page_id"}}


async def follow(
    connection: AsyncConnection,
    document: Json,
    before: Mapping[str, Any],
    owner: Mapping[str, int],
    name: str,
    at: datetime,
) -> Json:
    """The document with the page of its `url_targeting`, which is made or changed; `name` is the owner's."""
    given, former = document.get(NAME), before.get(NAME)
    if not given or (given == former and "page_id" in given):
        return document
    wanted = {
        "activation_type": "immediate",
        "conditions": default_conditions(given["edit_url"]),
        **{key: value for key, value in given.items() if key != "page_id"},
    }
    with _pointing_there():
        page_id = page_id_of(before)
        if page_id is None:
            body = {**owner, **wanted, "name": f"URL targeting for {name}", "single_use": True}
            page = await PAGES.create(connection, body, at)
        else:
            former_code = {"activation_code": ""} if "activation_code" in (former or {}) else {}
            page = await PAGES.change_by_owner(connection, page_id, {**former_code, **wanted}, at)
    shown = {key: page[key] for key in SHOWN if page.get(key)}
    key = {"key": given["key"]} if "key" in given else {}
    return {**document, NAME: {**shown, **key, "page_id": page["id"]}}


def leaves_its_page(document: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether the page of the `url_targeting` before is no longer that of the document."""
    return page_id_of(before) not in (None, page_id_of(document))


async def retire(
    connection: AsyncConnection, document: Mapping[str, Any], before: Mapping[str, Any], at: datetime
) -> None:
    """Archive the page of a `url_targeting` that has gone; the index must know that it is in use no more."""
    page_id = page_id_of(before)
    if page_id is not None and leaves_its_page(document, before):
        await PAGES.change_by_owner(connection, page_id, {"archived": True}, at)


@contextmanager
def _pointing_there() -> Iterator[None]:
    """What is wrong with the page is wrong with `url_targeting`."""
    try:
        yield
    except ServiceError as exc:
        if not exc.messages:
            raise
        problems = {
            f"/{NAME}{pointer.removeprefix('/body')}": problem for pointer, problem in exc.messages.items()
        }
        raise field_errors(problems) from None
