"""One entity of the contract in a service: what may be set, what is stored, and create, read, update and archive.

    ATTRIBUTES = Entity("Attribute", METADATA, next_ids, initial={"description": ""})

    @ATTRIBUTES.prepare
    def name_defaults_to_the_key(attribute, before): ...

The contract's definitions say what may be set: `writable("Attribute")`, and for changes `writable("AttributeUpdate")`
where there is one. What is particular to an entity is a function in one of six places:

- `prepare(entity, before)` completes or normalises what is about to be stored, and returns it;
- `complete(connection, entity, before)`, a coroutine, does so with the help of other rows;
- `rule(entity, before)` yields (pointer, problem) for rules between fields;
- `reference(connection, entity, before)`, a coroutine, returns such pairs for what other rows decide;
- `derive(connection, entities)`, a coroutine, adds what follows from other rows to what is answered;
- `stored(connection, entity)`, a coroutine, writes what else follows from what has just been stored.

`before` is the entity as it was, None while it is created. Every function here works in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, MetaData, Row, Table, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from optimizely_api.contract.definitions import defaults, has_definition, noun_of, writable
from optimizely_api.contract.times import format_time
from optimizely_api.http.entity_tags import names_tag, version_tag
from optimizely_api.services.entities.history import TABLE as HISTORY
from optimizely_api.services.entities.history import record
from optimizely_api.services.entities.tables import COLUMNS, entity_table
from optimizely_api.services.http.errors import conflict, field_errors, gone, not_found, version_mismatch
from optimizely_api.services.http.query import Page
from optimizely_api.services.schema import ID, Schema
from optimizely_api.services.storage.ids import allocate_ids
from optimizely_api.services.storage.locks import lock
from optimizely_api.services.storage.paging import fetch_page

Json = dict[str, Any]
Problem = tuple[str, str]  # a JSON pointer into the body, and what is wrong there

Prepare = Callable[[Json, Json | None], Json]
Complete = Callable[[AsyncConnection, Json, Json | None], Awaitable[Json]]
Rule = Callable[[Json, Json | None], Iterable[Problem]]
Reference = Callable[[AsyncConnection, Json, Json | None], Awaitable[Iterable[Problem]]]
Derive = Callable[[AsyncConnection, Sequence[Json]], Awaitable[None]]
Stored = Callable[[AsyncConnection, Json], Awaitable[None]]

OWNERS = {"account_id": ID, "project_id": ID}  # set once, by the gateway, which knows the caller


class Entity:
    """An entity of the contract, stored in one table."""

    def __init__(
        self,
        name: str,
        metadata: MetaData,
        next_ids: Table,
        *,
        table: Table | None = None,
        columns: Sequence[str] = (),
        initial: Mapping[str, Any] | None = None,
        tightened: Mapping[str, Json] | None = None,
        internal: Mapping[str, Json] | None = None,
        update: str = "",
        deletes: bool = False,
        locks_project: bool = False,
        recorded: bool = True,
    ) -> None:
        """Make the entity that the contract calls `name`.

        `columns` are properties that are ids and that lists filter by. `initial` are values of properties that
        a caller leaves out, besides the contract's defaults.
        `tightened` are properties whose schema differs from the contract's, `internal` those that only a service's
        callers may set, once. `update` is the definition of a change, `<name>Update` if that exists. `table` is one
        that is there already, with the columns of `entity_table` and `columns`. With `deletes` there is no archive:
        DELETE removes the row. With `locks_project` a change waits for those of all such entities of the project.
        Unless `recorded`, it has no history in a service that keeps one.
        """
        self.name = name
        self.noun = noun_of(name)
        self.plural = f"{self.noun}s"
        self.table = entity_table(self.plural, metadata, columns) if table is None else table
        self.columns = (*COLUMNS, *columns)
        self._next_ids = next_ids
        self._deletes = deletes
        self._locks_project = locks_project
        self._history = metadata.tables.get(HISTORY) if recorded else None
        self._defaults = {"archived": False, **defaults(name), **(initial or {})}
        own = dict(tightened or {})
        self._creation = _schema(writable(name), {**own, **(internal or {}), **OWNERS}, OWNERS)
        self._change = _schema(_change_schema(name, update), own)
        self._prepare: list[Prepare] = []
        self._complete: list[Complete] = []
        self._rules: list[Rule] = []
        self._references: list[Reference] = []
        self._derive: list[Derive] = []
        self._stored: list[Stored] = []

    def prepare(self, function: Prepare) -> Prepare:
        """Complete or normalise what is about to be stored."""
        self._prepare.append(function)
        return function

    def complete(self, function: Complete) -> Complete:
        """Complete what is about to be stored with the help of other rows."""
        self._complete.append(function)
        return function

    def rule(self, function: Rule) -> Rule:
        """Hold what is about to be stored against a rule between its fields."""
        self._rules.append(function)
        return function

    def reference(self, function: Reference) -> Reference:
        """Hold what is about to be stored against other rows."""
        self._references.append(function)
        return function

    def derive(self, function: Derive) -> Derive:
        """Add what follows from other rows to entities that are about to be answered."""
        self._derive.append(function)
        return function

    def stored(self, function: Stored) -> Stored:
        """Write what else follows from an entity that has just been created, changed or archived."""
        self._stored.append(function)
        return function

    async def create(self, connection: AsyncConnection, body: Json, at: datetime) -> Json:
        """Store a new entity and return it; 400 for what does not fit."""
        given = self._creation.read(body)
        if self._locks_project:  # before ids are allocated, as in every change
            await self._lock_project(connection, given["project_id"])
        (entity_id,) = await allocate_ids(connection, self._next_ids)
        entity = await self._checked(connection, {**self._defaults, **given, "id": entity_id}, None)
        values = self._values(entity)
        await connection.execute(
            insert(self.table).values(id=entity_id, created=at, last_modified=at, **values)
        )
        await self._follow(connection, None, entity, at)
        return await self.get(connection, entity_id)

    async def get(self, connection: AsyncConnection, entity_id: int) -> Json:
        """One entity, archived or not; 404 when there is none."""
        entity = self._json(await self._row(connection, entity_id))
        return (await self._derived(connection, [entity]))[0]

    async def page(
        self, connection: AsyncConnection, where: Iterable[ColumnElement[bool]], page: Page
    ) -> tuple[int, list[Json]]:
        """How many entities match, and a page of them, ordered by id."""
        query = select(self.table).where(*where)
        total, rows = await fetch_page(connection, query, self.table.c.id, page)
        return total, await self._derived(connection, [self._json(row) for row in rows])

    async def update(
        self, connection: AsyncConnection, entity_id: int, body: Json, at: datetime, if_match: str = ""
    ) -> Json:
        """Change what `body` names and return the whole entity; a change of nothing stores nothing.

        404 for an unknown id, 412 when `if_match` names another version, 409 when it is archived and stays so,
        400 for what does not fit.
        """
        changes = self._change.read(body)
        row = await self._row(connection, entity_id, for_update=True)
        before = self._json(row)
        await self._check_version(connection, before, if_match)
        differs = any(before.get(name) != value for name, value in changes.items())
        if before["archived"] and differs and changes.get("archived", True):
            raise conflict(
                f'{self.noun} {entity_id} is archived; send {{"archived": false}} to bring it back'
            )
        after = await self._checked(connection, {**before, **changes}, before)
        values = self._values(after)
        if any(getattr(row, name) != value for name, value in values.items()):
            await self._write(connection, row, at, **values)
            await self._follow(connection, before, after, at)
        return await self.get(connection, entity_id)

    async def archive(
        self, connection: AsyncConnection, entity_id: int, at: datetime, if_match: str = ""
    ) -> None:
        """Put an entity into the archive, or remove it; 404 for an unknown id, 410 when it is archived already."""
        row = await self._row(connection, entity_id, for_update=True)
        before = self._json(row)
        if before["archived"]:
            raise gone(self.noun, entity_id)
        await self._check_version(connection, before, if_match)
        if self._deletes:
            await self._delete(connection, entity_id)
            return
        after = await self._checked(connection, {**before, "archived": True}, before)
        await self._write(connection, row, at, **self._values(after))
        await self._follow(connection, before, after, at)

    async def _delete(self, connection: AsyncConnection, entity_id: int) -> None:
        result = await connection.execute(delete(self.table).where(self.table.c.id == entity_id))
        if result.rowcount == 0:  # another request was faster
            raise not_found(self.noun, entity_id)

    async def _write(self, connection: AsyncConnection, row: Row[Any], at: datetime, **values: Any) -> None:
        # Of two changes at once the second to be stored is the later one, whichever came first: other services tell
        # by this time which version is the newer one.
        later = max(at, row.last_modified + timedelta(microseconds=1))
        statement = update(self.table).where(self.table.c.id == row.id)
        await connection.execute(statement.values(last_modified=later, **values))

    async def _follow(
        self, connection: AsyncConnection, before: Json | None, after: Json, at: datetime
    ) -> None:
        for stored in self._stored:
            await stored(connection, after)
        if self._history is not None:
            await record(connection, self._history, self.name, before, after, at)

    async def _row(
        self, connection: AsyncConnection, entity_id: int, *, for_update: bool = False
    ) -> Row[Any]:
        """The row; `for_update` locks it until the transaction ends, so that no other change is lost in between."""
        if for_update and self._locks_project:
            owner = select(self.table.c.project_id).where(self.table.c.id == entity_id)
            await self._lock_project(connection, (await connection.execute(owner)).scalar_one_or_none() or 0)
        query = select(self.table).where(self.table.c.id == entity_id)
        row = (await connection.execute(query.with_for_update() if for_update else query)).one_or_none()
        if row is None:
            raise not_found(self.noun, entity_id)
        return row

    async def _lock_project(self, connection: AsyncConnection, project_id: int) -> None:
        """Wait for the changes of all such entities of the project, also of those that are being created."""
        await lock(connection, self.noun.encode()[:4], project_id)

    async def _checked(self, connection: AsyncConnection, entity: Json, before: Json | None) -> Json:
        for prepare in self._prepare:
            entity = prepare(entity, before)
        for complete in self._complete:
            entity = await complete(connection, entity, before)
        problems = [problem for rule in self._rules for problem in rule(entity, before)]
        problems += await self._key_problems(connection, entity)
        for reference in self._references:
            problems += await reference(connection, entity, before)
        if problems:
            raise field_errors(dict(reversed(problems)))
        return entity

    async def _key_problems(self, connection: AsyncConnection, entity: Json) -> list[Problem]:
        if entity.get("key") is None:
            return []
        columns = self.table.c
        same_key = select(columns.id).where(
            columns.project_id == entity["project_id"],
            columns.key == entity["key"],
            columns.id != entity["id"],
        )
        holder = (await connection.execute(same_key)).scalar_one_or_none()
        # Clients look for these words, and go on with the entity of that id.
        return [] if holder is None else [("/key", f"is already in use (id: {holder})")]

    async def _check_version(self, connection: AsyncConnection, entity: Json, if_match: str) -> None:
        if not if_match:
            return
        whole = (await self._derived(connection, [dict(entity)]))[0]
        if not names_tag(if_match, version_tag(whole)):
            raise version_mismatch(self.noun, entity["id"])

    async def _derived(self, connection: AsyncConnection, entities: list[Json]) -> list[Json]:
        for derive in self._derive:
            await derive(connection, entities)
        return entities

    def _values(self, entity: Json) -> Json:
        """The columns' values; what is no column is the document."""
        known = {*self.columns, "id", "created", "last_modified"}
        values: Json = {name: entity.get(name) for name in self.columns}
        return {**values, "document": {name: value for name, value in entity.items() if name not in known}}

    def _json(self, row: Row[Any]) -> Json:
        columns = {name: getattr(row, name) for name in self.columns}
        return {
            **row.document,
            **{name: value for name, value in columns.items() if value is not None},
            "id": row.id,
            "created": format_time(row.created),
            "last_modified": format_time(row.last_modified),
        }


def _change_schema(name: str, update: str) -> Json:
    update = update or f"{name}Update"
    if has_definition(update):
        return writable(update)
    schema = writable(name)
    properties = {key: part for key, part in schema["properties"].items() if key not in OWNERS}
    return {key: value for key, value in schema.items() if key != "required"} | {"properties": properties}


def _schema(schema: Json, further: Mapping[str, Json], required: Iterable[str] = ()) -> Schema:
    properties = {**schema.get("properties", {}), **further}
    names = sorted({*schema.get("required", ()), *required})
    return Schema({**schema, "properties": properties, **({"required": names} if names else {})})
