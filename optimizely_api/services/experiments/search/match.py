"""Conditions on the index that both databases answer alike: by FTS5 on SQLite, by `tsvector` on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import ColumnElement, Dialect, cast, column, literal, select, table
from sqlalchemy.dialects.postgresql import TSQUERY

from optimizely_api.services.experiments.search.words import id_word, may_be_id
from optimizely_api.services.experiments.tables import search_entries

FTS = "search_words"  # SQLite's own table; its migration says how it divides texts
_FTS = table(FTS, column("rowid"), column(FTS))


def match_words(dialect: Dialect, words: Sequence[str], *, is_full: bool) -> ColumnElement[bool]:
    """Every word occurs in the name or the key, or is the id; with `is_full` it may begin a word of another text."""
    alternatives = [[(word, True), *([(id_word(word), False)] if may_be_id(word) else [])] for word in words]
    return _match(dialect, alternatives, is_full=is_full)


def match_label(dialect: Dialect, label: str) -> ColumnElement[bool]:
    """The label is one of the entity's words."""
    return _match(dialect, [[(label, False)]], is_full=False)


def _match(
    dialect: Dialect, alternatives: Sequence[Sequence[tuple[str, bool]]], *, is_full: bool
) -> ColumnElement[bool]:
    """For each of `alternatives` there is one (word, or its beginning if True)."""
    entry = search_entries.c
    if dialect.name == "sqlite":
        query = _joined(alternatives, '"{}"', '"{}" *', " OR ", " AND ")
        text = query if is_full else f"{{names}} : ({query})"
        return entry.id.in_(select(_FTS.c.rowid).where(_FTS.c[FTS].op("MATCH")(text)))
    wanted = cast(literal(_joined(alternatives, "'{}'", "'{}':*", " | ", " & ")), TSQUERY)
    return (entry.texts if is_full else entry.names).op("@@")(wanted)


def _joined(
    alternatives: Sequence[Sequence[tuple[str, bool]]], whole: str, beginning: str, either: str, both: str
) -> str:
    return both.join(
        "(" + either.join((beginning if begins else whole).format(word) for word, begins in each) + ")"
        for each in alternatives
    )
