"""Every regular expression of the package and the contract reads text in time that is linear in its length."""

import importlib
import pkgutil
import re
import time

import pytest
import yaml

import optimizely_api
from tests.support.serving import ROOT

CHARACTERS = '0a "\\-+.,/:_%\t'
LONG = 4_000  # beside an eighth of it: eight times as long when linear, sixty-four when quadratic
NOTICED_SECONDS = 0.02  # of CPU; less of it freezes nobody, and cannot be measured
BELONGS_TO_OTHERS = "optimizely_api.comparison"  # reads its own machine's output


def compiled():
    """{name: compiled pattern} of all modules of the package."""
    found = {}
    for module in pkgutil.walk_packages(optimizely_api.__path__, "optimizely_api."):
        if module.name.startswith(BELONGS_TO_OTHERS) or ".migrations" in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, re.Pattern):
                found[f"{module.name}.{name}"] = value
    return found


def of_the_contract():
    """{file and place: compiled pattern}."""

    def walk(value, place):
        if isinstance(value, dict):
            if isinstance(value.get("pattern"), str):
                yield place, re.compile(value["pattern"])
            for key, below in value.items():
                yield from walk(below, f"{place}/{key}")
        elif isinstance(value, list):
            for number, below in enumerate(value):
                yield from walk(below, f"{place}/{number}")

    files = sorted((ROOT / "swagger").glob("*.yaml"))
    return {
        place: found for file in files for place, found in walk(yaml.safe_load(file.read_text()), file.name)
    }


PATTERNS = {**compiled(), **of_the_contract()}


def cpu_seconds(read, text):
    """The least of two tries: another process can only make one longer."""
    took = []
    for _ in range(2):
        began = time.process_time()
        read(text)
        took.append(time.process_time() - began)
    return min(took)


def is_slow(pattern, length):
    """Characters of which a text of `length` costs more than linear reading does."""
    for character in CHARACTERS:
        for odd in ("", "\x00"):
            text = character * length + odd, character * (length // 8) + odd
            long, short = (t.encode() if isinstance(pattern.pattern, bytes) else t for t in text)
            for read in (pattern.match, pattern.fullmatch):
                took = cpu_seconds(read, long)
                if took > NOTICED_SECONDS and took > 20 * cpu_seconds(read, short):
                    yield character


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS.keys())
def test_a_pattern_reads_one_repeated_character_in_linear_time(pattern):
    assert list(is_slow(pattern, LONG)) == []


def test_a_quadratic_pattern_would_be_noticed():
    assert "0" in list(is_slow(re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)x"), LONG))
