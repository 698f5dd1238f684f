"""The contract's formats in request bodies, as JSON Schema: the same texts as `formats.py` takes, without Python.

Calling a Python function for each of some thousand texts would hold the event loop.
"""

from typing import Any

from optimizely_api.contract.formats import MAX_ID
from optimizely_api.contract.validators import UUID_PATTERN

_YEAR = "(?:19[7-9][0-9]|[2-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])"
_MULTIPLE_OF_4 = "(?:0[48]|[2468][048]|[13579][26])"  # but 00
_NO_MULTIPLE_OF_4 = "(?:[02468][1-35-79]|[13579][013-57-9])"
_LEAP_YEAR = f"(?:[0-9]{{2}}{_MULTIPLE_OF_4}|(?:{_MULTIPLE_OF_4}|00)00)"
_COMMON_YEAR = f"(?:[0-9]{{2}}{_NO_MULTIPLE_OF_4}|{_NO_MULTIPLE_OF_4}00)"
_DAY = (
    "(?:[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
    f"|{_LEAP_YEAR}-02-29)"
)
_LAST_DAY = (
    f"(?:[0-9]{{4}}-(?:(?:0[13578]|1[02])-31|(?:0[469]|11)-30)|{_COMMON_YEAR}-02-28|{_LEAP_YEAR}-02-29)"
)
_OFFSET = "(?:[Zz]|[-+ ](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
_TIME = rf"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:\.[0-9]+)?)?{_OFFSET}?"
# With an offset of its own, a leap second would need arithmetic.
_LEAP_SECOND = rf"{_LAST_DAY}[Tt ]23:59:60(?:\.[0-9]+)?(?:[Zz]|[-+ ]00(?::?00)?)?"


def _up_to(limit: int) -> str:
    """A pattern of the numbers of as many digits as `limit` has, up to `limit`."""
    digits = str(limit)
    below = [
        f"{digits[:place]}[0-{int(digit) - 1}][0-9]{{{len(digits) - place - 1}}}"
        for place, digit in enumerate(digits)
        if digit != "0"
    ]
    return "|".join([digits, *below])


REQUEST_PATTERNS: dict[str, list[dict[str, Any]]] = {  # a text has to fit all schemas of its format
    "date-time": [
        {"maxLength": 64},
        {"pattern": f"^{_YEAR}-"},
        {"pattern": f"^(?:{_DAY}(?:[Tt ]{_TIME})?|{_LEAP_SECOND})$"},
    ],
    "date": [{"pattern": "^(?:[1-9]|0[1-9]|00[1-9]|000[1-9])"}, {"pattern": f"^{_DAY}$"}],
    "int64": [{"pattern": f"^(?:[0-9]{{1,15}}|{_up_to(MAX_ID)})$"}, {"pattern": "[1-9]"}],
    "uuid": [{"pattern": UUID_PATTERN}],
}
