"""What is wrong with a request, in a caller's words: a phrase for each violation, and one sentence for the first."""

from collections.abc import Callable, Mapping
from typing import Any

from jsonschema import ValidationError

from optimizely_api.contract.formats import EXPECTED, MAX_ID

Phrase = Callable[[Any], str]  # from what the contract says under a keyword

EXPECTED_KEY = "x-expected"  # beside a pattern of the contract: what fits it, in a caller's words

_LONGEST_NUMBER = 18  # digits of a number that is repeated; a longer one is told by their count
_MOST_DIGITS = 400  # a number is read no further

_PHRASES: Mapping[str, Phrase] = {
    "minimum": "must be at least {}".format,
    "maximum": "must be at most {}".format,
    "multipleOf": "must be a multiple of {}".format,
    "minLength": lambda limit: f"must have at least {_counted(limit, 'character')}",
    "maxLength": lambda limit: f"must have at most {_counted(limit, 'character')}",
    "minItems": lambda limit: f"must have at least {_counted(limit, 'entry', 'entries')}",
    "maxItems": lambda limit: f"must have at most {_counted(limit, 'entry', 'entries')}",
    "minProperties": lambda limit: f"must have at least {_counted(limit, 'member')}",
    "maxProperties": lambda limit: f"must have at most {_counted(limit, 'member')}",
    "uniqueItems": lambda _: "must not have the same entry twice",
    "additionalProperties": lambda _: "has a member that the contract does not know",
    "pattern": "must match {}".format,
    "format": lambda name: f"must be {EXPECTED.get(name, name)}",
    "enum": lambda values: f"must be one of {', '.join(map(str, values))}",
    "required": lambda _: "is required",
}


def phrase(error: ValidationError) -> str:
    """What is wrong at one place, without repeating what was sent: "must be at most 100"."""
    keyword, limit, schema = error.validator, error.validator_value, error.schema
    if keyword == "type":
        return _wrong_type(error)
    if keyword in ("minimum", "maximum") and _is_id(schema):
        return f"must be {EXPECTED['int64']}"
    if keyword in ("minimum", "maximum") and schema.get(f"exclusive{keyword.title()}"):
        return f"must be {'more' if keyword == 'minimum' else 'less'} than {limit}"
    if keyword == "pattern" and (
        expected := schema.get(EXPECTED_KEY) or EXPECTED.get(schema.get("format", ""))
    ):
        return f"must be {expected}"
    known = _PHRASES.get(keyword)
    return f"breaks the contract's {keyword}" if known is None else known(limit)


def sentence(place: str, said: str, value: Any = None) -> str:
    """One violation as a sentence, such as "per_page must be at most 100, not 1000."

    `value` is what was sent. Numbers are repeated; text is not, for it may be a secret in the wrong place.
    """
    tail = f", not {_number(value)}" if type(value) is int and said.startswith("must be ") else ""
    return f"{_subject(place)} {said}{tail}."


def _wrong_type(error: ValidationError) -> str:
    kind = error.validator_value
    if "in" not in error.schema:
        # Inside a JSON body: the wording of JSON Schema, which clients look for.
        return (
            f"is not of type {', '.join(repr(name) for name in ([kind] if isinstance(kind, str) else kind))}"
        )
    if isinstance(error.instance, list):
        return "must be given once"
    return f"must be {_ARTICLES.get(kind, f'a {kind}')}"


_ARTICLES = {"integer": "an integer", "array": "an array", "object": "an object"}


def _is_id(schema: Mapping[str, Any]) -> bool:
    return schema.get("format") == "int64" and schema.get("maximum") == MAX_ID


def _counted(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _number(value: int) -> str:
    digits = len(str(abs(value)))
    if digits <= _LONGEST_NUMBER:
        return str(value)
    return f"a number of {digits}{' or more' if digits >= _MOST_DIGITS else ''} digits"


def _subject(place: str) -> str:
    """A JSON pointer as a caller calls what is there: `per_page`, `toys[2].size`, `The body`."""
    _, where, *names = (part.replace("~1", "/").replace("~0", "~") for part in place.split("/"))
    if not names:
        return f"The {where}"
    first, *rest = names
    return first + "".join(f"[{name}]" if name.isdigit() else f".{name}" for name in rest)
