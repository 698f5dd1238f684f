"""Words: what the index keeps of texts, and what a query asks for.

A word is a run of letters and digits, in one case. Of names and keys the index keeps every ending of every word, so
that what begins one of them is what occurs anywhere in a word. Of further texts it keeps the words alone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any

NAME_CHARACTERS = 1_000  # of a name or a key that are searched
TEXT_CHARACTERS = 50_000  # of all further texts of an entity
WORD_CHARACTERS = 64  # as many as a key has; words are the same when these are
MAX_WORDS = 50  # of a query
_RUN = re.compile(r"[^\W_]+")


def fold(text: str) -> str:
    """The text in one case and one way of writing."""
    return unicodedata.normalize("NFKC", text).casefold()


def words_of(text: str) -> list[str]:
    """The words of a text, each once."""
    return list(dict.fromkeys(run[:WORD_CHARACTERS] for run in _RUN.findall(fold(text))))


def endings_of(text: str | None) -> set[str]:
    """Every ending of every word of a name or a key."""
    runs = _RUN.findall(fold((text or "")[:NAME_CHARACTERS]))
    return {run[start : start + WORD_CHARACTERS] for run in runs for start in range(len(run))}


def id_word(entity_id: int | str) -> str:
    """The word that only the entity's id is, for it begins with what no word of a text has."""
    return f"#{entity_id}"


def environment_word(key: str, *, awaited: bool = False) -> str:
    """The word of an environment that an entity is on in, or awaits its schedule in.

    It is hexadecimal, for upper and lower case differ in keys of environments.
    """
    return f"{'~' if awaited else '@'}{key.encode().hex()}"


def texts_in(value: Any) -> Iterator[str]:
    """Every text in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_in(part)


def words_in(value: Any) -> set[str]:
    """The words of all texts in a document."""
    return set(words_of("\n".join(texts_in(value))[:TEXT_CHARACTERS]))


def may_be_id(word: str) -> bool:
    """Whether the word can be an id of an entity."""
    return word.isascii() and word.isdigit() and len(word) <= 16


def lexemes(words: Iterable[str]) -> str:
    """A `tsvector` of the words, as PostgreSQL reads it. No word has a quotation mark or a backslash."""
    return " ".join(f"'{word}'" for word in words)
