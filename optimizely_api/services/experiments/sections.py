"""Sections: the parts of a multivariate experiment, whose variations are combined to those of the experiment."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.definitions import writable
from optimizely_api.services.entities.entity import Entity
from optimizely_api.services.experiments import combinations, definitions, page_changes, shapes
from optimizely_api.services.experiments.references import check_references
from optimizely_api.services.experiments.schema import MAX_VARIATIONS
from optimizely_api.services.experiments.search.index import CAMPAIGN, EXPERIMENT, index
from optimizely_api.services.experiments.tables import METADATA, experiments, layers, next_ids
from optimizely_api.services.http.errors import conflict
from optimizely_api.services.schema import ID, field_error
from optimizely_api.services.storage.ids import allocate_ids
from optimizely_api.services.storage.rows import fetch_row

Json = dict[str, Any]

MULTIVARIATE = "multivariate"
FEWEST_VARIATIONS = 2


class Sections(Entity):
    """An entity whose every write changes its experiment."""

    async def create(self, connection: AsyncConnection, body: Json, at: datetime) -> Json:
        """Store a new section; the experiment is locked before ids are allocated, as in every change of one."""
        experiment_id = self._creation.read(body).get("experiment_id")
        if experiment_id is None:
            raise field_error("/experiment_id", "is required")
        await _experiment_before_its_start(connection, experiment_id)
        return await super().create(connection, body, at)


_VARIATIONS = writable("Section")["properties"]["variations"]
SECTIONS = Sections(
    "Section",
    METADATA,
    next_ids,
    columns=("experiment_id",),
    initial={"description": ""},
    tightened={"variations": {**_VARIATIONS, "maxItems": MAX_VARIATIONS}},
    internal={"experiment_id": ID},
)


@SECTIONS.complete
async def the_experiment_gets_the_combinations(
    connection: AsyncConnection, section: Json, before: Json | None
) -> Json:
    if section == before:
        return section
    experiment = await _experiment_before_its_start(connection, section["experiment_id"])
    pages = definitions.pages_of(experiment.document)
    variations = definitions.with_pages_of_actions(section["variations"], pages)
    section = await _completed(connection, {**section, "variations": variations}, before)
    page_changes.check(section, before or {})
    await check_references(connection, experiment.project_id, section, before or {})
    await _recombine(connection, experiment, section)
    return section


async def _experiment_before_its_start(connection: AsyncConnection, experiment_id: int) -> Row[Any]:
    """The experiment, locked like every change of one; 400 or 409 when its sections cannot change."""
    row = await fetch_row(connection, experiments, experiment_id, "experiment")
    await fetch_row(connection, layers, row.layer_id, "campaign", for_update=True)
    row = await fetch_row(connection, experiments, experiment_id, "experiment")
    if row.document.get("type") != MULTIVARIATE:
        raise field_error(
            "/experiment_id", "names an experiment that is not multivariate: it has no sections"
        )
    if row.status == "archived":
        raise conflict("the experiment is archived; unarchive it first")
    if shapes.state_of(row, datetime.now(UTC)).earliest is not None:
        raise conflict("the experiment has started: its sections cannot change any more")
    return row


async def _completed(connection: AsyncConnection, section: Json, before: Json | None) -> Json:
    """The section with a name, and with ids and names of its variations."""
    if not section.get("name"):
        section = {**section, "name": f"Section {await _number(connection, section)}"}
    given = section["variations"]
    if before is None or given != before["variations"]:
        ids = iter(await allocate_ids(connection, next_ids, len(given)))
        if before is None:
            variations = definitions.new_variations(given, ids, keyed=False)
        else:
            variations = definitions.changed_variations(
                before["variations"], given, ids, started=False, keyed=False
            )
        section = {**section, "variations": [_named(one, n) for n, one in enumerate(variations, 1)]}
    if len(section["variations"]) < FEWEST_VARIATIONS:
        raise field_error("/variations", f"a section needs {FEWEST_VARIATIONS} variations at least")
    definitions.check_variations(section["variations"])
    return section


def _named(variation: Json, number: int) -> Json:
    return {**variation, "name": variation.get("name") or variation.get("key") or f"Variation #{number}"}


async def _number(connection: AsyncConnection, section: Json) -> int:
    """Which section of its experiment this is, by id."""
    columns = SECTIONS.table.c
    earlier = select(func.count()).where(
        columns.experiment_id == section["experiment_id"], columns.id < section["id"]
    )
    return int((await connection.execute(earlier)).scalar_one()) + 1


async def _recombine(connection: AsyncConnection, experiment: Row[Any], section: Json) -> None:
    """Make the experiment's variations of its sections, of which one is about to be stored."""
    columns = SECTIONS.table.c
    query = select(columns.id, columns.document).where(
        columns.experiment_id == experiment.id, columns.archived.is_(False), columns.id != section["id"]
    )
    present = {row.id: row.document["variations"] for row in await connection.execute(query)}
    if not section["archived"]:
        present[section["id"]] = section["variations"]
    of_sections = [present[number] for number in sorted(present)]
    wanted = combinations.count(of_sections)
    if wanted > MAX_VARIATIONS:
        raise field_error("/variations", f"there would be {wanted} combinations, more than {MAX_VARIATIONS}")
    ids = iter(await allocate_ids(connection, next_ids, wanted))
    combined = [
        {"variation_id": one.get("variation_id") or next(ids), **one}
        for one in combinations.combine(of_sections, experiment.document["variations"])
    ]
    if combined != experiment.document["variations"]:
        await _store(connection, experiment, combined)


async def _store(connection: AsyncConnection, experiment: Row[Any], variations: list[Json]) -> None:
    now = datetime.now(UTC)
    kept = {variation["variation_id"] for variation in variations}
    baseline = experiment.baseline_variation_id
    await connection.execute(
        update(experiments)
        .where(experiments.c.id == experiment.id)
        .values(
            document={**experiment.document, "variations": variations},
            baseline_variation_id=baseline if baseline in kept else None,
            last_modified=max(now, experiment.last_modified),
        )
    )
    # A change of an experiment counts as a change of its campaign.
    await connection.execute(
        update(layers)
        .where(layers.c.id == experiment.layer_id, layers.c.last_modified < now)
        .values(last_modified=now)
    )
    await index(connection, EXPERIMENT, [experiment.id])
    await index(connection, CAMPAIGN, [experiment.layer_id])
