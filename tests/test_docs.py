"""The documentation names only what there is, and lists all that it says it lists."""

import dataclasses
import importlib.util
import json
import re
from configparser import ConfigParser
from functools import cache

import click
import pytest

from optimizely_api.cli import main as command_line
from optimizely_api.contract import load
from optimizely_api.contract.not_yet import not_here_yet
from optimizely_api.foreign_names import PYTHON
from optimizely_api.gateway import TWEENS
from optimizely_api.gateway.errors import CODES
from optimizely_api.gateway.settings import Settings
from optimizely_api.runtime.refusals import log_access
from optimizely_api.runtime.server.ini_section import KNOWN_SETTINGS
from optimizely_api.services.http.limits import Limits
from optimizely_api.services.results.ingest import batches
from optimizely_api.services.results.ingest.admission import MAX_EVENT_IDS, MAX_EXPERIMENTS
from optimizely_api.services.results.ingest.later_decisions import MAX_LATER
from optimizely_api.services.results.numbers import MAX_REVENUE
from optimizely_api.services.results.query.aggregation import MAX_CUT_DAYS, MAX_CUT_VISITORS
from optimizely_api.services.results.query.history import DAILY_LOOKS
from optimizely_api.services.results.query.points import MAX_DATAPOINTS, MAX_POINTS
from optimizely_api.services.results.query.questions import MAX_EPOCHS
from optimizely_api.serving.log import GATEWAY_ACCESS, SERVICES_ACCESS, JSONLines
from tests.support.serving import ROOT
from tests.test_relied_on import RELIANCES

PACKAGE = ROOT / "optimizely_api"
DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *ROOT.glob("docs/*.md")]
}
SETTINGS = {item.name for item in dataclasses.fields(Settings)}
NO_FILES = {"report.html", "report.json", "Mozilla/"}  # what a command makes, and a text of browsers
SERVICES = ("PROJECTS", "EXPERIMENTS", "RESULTS", "EVENTS")
PROGRAMS = ("make ", "gunicorn ", "optimizely-api ", "python -m ")

each_document = pytest.mark.parametrize("name", sorted(DOCUMENTS))


@cache
def text(name):
    return DOCUMENTS[name].read_text(encoding="utf-8")


def code_spans(name):
    """What stands between backticks, without blocks of code."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text(name), flags=re.MULTILINE | re.DOTALL))


def commands(name):
    """Command lines in indented blocks and between backticks, without comments and variables before them."""
    blocks = re.findall(r"^    (\S.*)$", text(name), re.MULTILINE)
    for line in [*blocks, *code_spans(name)]:
        words = re.split(r"\s+#\s", line)[0].split()
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        if " ".join(words).startswith(PROGRAMS) and len(words) > 1:
            yield words


def rows(name, heading):
    """The cells of the first table after `heading`, without its head."""
    _, _, after = text(name).partition(heading)
    lines = re.search(r"(?:^\|.*\n)+", after, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[0].splitlines()[2:]]


@each_document
def test_files_and_folders_that_are_named_exist(name):
    named = {
        span for span in code_spans(name) if re.fullmatch(r"[\w./-]+(?:\.(?:py|md|ini|yaml|toml)|\w/)", span)
    }
    places = (ROOT, PACKAGE, PACKAGE / "services" / "results")
    missing = {path for path in named if not any((place / path).exists() for place in places)}
    assert missing - NO_FILES == set()


@each_document
def test_modules_and_loggers_that_are_named_exist(name):
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for dotted in re.findall(r"\boptimizely_api(?:\.\w+)+", text(name)):
        is_logger = dotted in (GATEWAY_ACCESS, SERVICES_ACCESS) or f'getLogger("{dotted}")' in sources
        assert is_logger or importlib.util.find_spec(dotted), dotted


@each_document
def test_links_lead_to_documents(name):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text(name)):
        assert target.startswith("https://") or (DOCUMENTS[name].parent / target).is_file(), target


def test_the_readme_leads_to_every_document():
    assert set(re.findall(r"\((docs/[\w-]+\.md)\)", text("README.md"))) == set(DOCUMENTS) - {"README.md"}


@each_document
def test_settings_that_are_named_exist(name):
    named = {
        found[1]
        for span in code_spans(name)
        if (
            found := re.fullmatch(
                r"([a-z]+(?:_[a-z]+)*_(?:seconds|bytes|timeout|connections)|[a-z_]+(?= = ))(?: = .*)?", span
            )
        )
    }
    assert named - SETTINGS - KNOWN_SETTINGS - CODES.keys() == set()


def test_every_setting_is_in_production_ini():
    listed = re.findall(r"^# (\w+) =", (ROOT / "production.ini").read_text(), re.MULTILINE)
    assert set(listed) == SETTINGS


@each_document
def test_variables_of_the_environment_that_are_named_exist(name):
    limits = {
        f"{service}_{item.metadata['variable']}"
        for service in SERVICES
        for item in dataclasses.fields(Limits)
    }
    parts = {f"..._{item.metadata['variable']}" for item in dataclasses.fields(Limits)}
    read = "".join(
        path.read_text(encoding="utf-8")
        for path in [
            *PACKAGE.rglob("*.py"),
            *ROOT.glob("tests/**/*.py"),
            ROOT / "Makefile",
            ROOT / "Procfile",
        ]
    )
    for variable in re.findall(r"(?:\.\.\._)?\b[A-Z]+(?:_[A-Z0-9]+)+\b", " ".join(code_spans(name))):
        found = variable in limits | parts or variable.removesuffix("_DATABASE_URL") in SERVICES
        assert found or re.search(rf"\b{re.escape(variable)}\b", read), variable


def test_the_table_of_addresses_lists_which_service_calls_which():
    listed = {
        (service, variable.strip("`"))
        for variable, service, _ in rows("docs/operating.md", "call each other")
    }
    read = {
        (service.lower(), f"OPTIMIZELY_API_{called.upper()}_URL")
        for service in SERVICES
        for path in (PACKAGE / "services" / service.lower()).rglob("*.py")
        for called in re.findall(r"\b([a-z]+)_url\(\)", path.read_text(encoding="utf-8"))
    }
    assert listed == read


@each_document
def test_commands_that_are_named_exist(name):
    sections = ConfigParser(interpolation=None)
    sections.read(ROOT / "production.ini")
    for program, *arguments in commands(name):
        if program == "make":
            target = next((word for word in arguments if "=" not in word), "help")
            assert re.search(rf"^{target}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE), target
        elif program == "gunicorn" and "--paste" in arguments:
            file, _, section = arguments[arguments.index("--paste") + 1].partition("#")
            assert (ROOT / file).is_file()
            assert sections.has_section(f"app:{section or 'main'}"), section
        elif program == "optimizely-api":
            assert is_command(arguments), arguments
        elif program == "python":
            assert importlib.util.find_spec(arguments[1]), arguments


def test_the_page_about_what_we_rely_on_has_every_package_with_its_bound():
    table = rows("docs/relying-on.md", "# What we rely on")
    named = " ".join(package for package, *_ in table)
    assert {reliance.package for reliance in RELIANCES.values() if reliance.package not in named} <= {PYTHON}
    bounds = [bound for _, cell, *_ in table for bound in re.findall(r"`([^`]+)`", cell)]
    assert [bound for bound in bounds if f'"{bound}"' not in (ROOT / "setup.py").read_text()] == []


def test_the_page_about_working_on_it_lists_every_benchmark():
    programs = {
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in ROOT.glob("tests/**/benchmark_*.py")
        if "__main__" in path.read_text(encoding="utf-8")
    }
    listed = {arguments[1] for program, *arguments in commands("docs/development.md") if program == "python"}
    assert listed == programs


def is_command(words):
    """Whether the first words name a command of `optimizely-api`, and its options exist."""
    command = command_line
    while isinstance(command, click.Group) and words and words[0] in command.commands:
        command, words = command.commands[words[0]], words[1:]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    given = {word for word in words if word.startswith("--")}
    return given <= options and (not isinstance(command, click.Group) or given == {"--help"})


def test_the_table_of_errors_lists_every_code_with_its_status():
    listed = {code.strip("`"): int(status) for code, status, *_ in rows("docs/errors.md", "# Errors")}
    assert listed == CODES
    made = [code.strip("`") for code, *_ in rows("docs/how-a-request-walks.md", "## Errors")]
    assert made == list(listed)


def test_the_table_of_rooms_lists_every_folder_of_the_package():
    packages = {path.parent.relative_to(PACKAGE).as_posix() + "/" for path in PACKAGE.rglob("__init__.py")}
    listed = [room.strip("`") for room, *_ in rows("docs/rooms.md", "# The rooms")]
    assert sorted(listed) == sorted(
        folder for folder in packages if folder != "./" and "migrations" not in folder
    )


def test_the_table_of_tweens_is_their_order():
    def of(tween):
        module = tween.rpartition(".")[0].removeprefix("optimizely_api.")
        return tween if module.startswith("pyramid") else module.replace(".", "/") + ".py"

    listed = [tween.strip("`") for tween, *_ in rows("docs/how-a-request-walks.md", "The tweens")]
    assert listed == [of(tween) for tween in TWEENS]


def test_the_table_of_the_access_log_lists_every_field(caplog):
    with caplog.at_level("INFO", GATEWAY_ACCESS):
        log_access(400, "id", method=None, path=None, client=None)
    listed = [
        field.strip("`") for field, *_ in rows("docs/operating.md", "### The access log of the gateway")
    ]
    assert listed == [*json.loads(JSONLines().format(caplog.records[0])), "upstream_events", "uuid"]


@pytest.mark.parametrize(
    "heading",
    [
        "### Lines of the gateway to look for",
        "### Lines of the services to look for",
        "## What to do when ...",
    ],
)
def test_messages_that_are_named_are_in_the_code(heading):
    sources = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for cell, *_ in rows("docs/operating.md", heading):
        for message in re.findall(r"`([^`]+ [^`]+)`", cell):
            for words in re.split(r"\.\.\.|\b(?:N|UUID|CODE)\b", message):
                assert words.strip(" :") in sources, message


@pytest.mark.parametrize(
    ("sentence", "numbers"),
    [
        ("keeps {} decisions of each", [MAX_LATER]),
        ("with more than {} runs", [MAX_EPOCHS]),
        ("beyond {:,}, does not count", [MAX_REVENUE]),
        ("at most {} in a series and {:,} in all", [MAX_POINTS, MAX_DATAPOINTS]),
        ("After {} days with data", [DAILY_LOOKS]),
        ("into more than {} parts, or cuts days on which more than {:,}", [MAX_CUT_DAYS, MAX_CUT_VISITORS]),
        ("at most {:,} events, a visitor's entry in it {:,}", [batches.MAX_BATCH_EVENTS, batches.MAX_EVENTS]),
        ("events and {} attributes, a snapshot {}", [batches.MAX_ATTRIBUTES, batches.MAX_DECISIONS]),
        ("in at most {} experiments, and converts on at most {}", [MAX_EXPERIMENTS, MAX_EVENT_IDS]),
        ("at most {} bytes, other texts {:,}", [batches.MAX_NAME_BYTES, batches.MAX_TEXT_BYTES]),
    ],
)
def test_the_page_about_results_has_the_numbers_of_the_code(sentence, numbers):
    assert sentence.format(*numbers) in " ".join(text("docs/results.md").split())


def test_the_readme_says_how_many_operations_there_are():
    here = load().operations
    assert f"{len(here)} of the {len(here) + len(list(not_here_yet(here)))} operations" in text("README.md")


def test_the_code_in_the_readme_is_the_code_of_the_view():
    (code,) = re.findall(r"^```python\n(.*?)^```", text("README.md"), re.MULTILINE | re.DOTALL)
    assert code in (PACKAGE / "gateway/views/experiments.py").read_text(encoding="utf-8")


def test_the_page_about_the_comparison_quotes_no_figure():
    """Figures are of one machine on one day; the README quotes those of the report that is kept."""
    assert not re.search(r"\d\s*(ms|%|/\s?s|times|MB)(?![a-z])", text("docs/comparison.md"))


def test_changes_name_the_version_of_the_contract_that_is_served():
    _, _, unreleased = (ROOT / "CHANGES.md").read_text(encoding="utf-8").partition("## Unreleased\n")
    named = re.findall(r"Served the contract, version (\S+),", unreleased.partition("\n## ")[0])
    assert named == [load().document["info"]["version"]]


def test_changes_are_grouped_in_one_order():
    _, _, unreleased = (ROOT / "CHANGES.md").read_text(encoding="utf-8").partition("## Unreleased\n")
    groups = re.findall(r"^### (.+)$", unreleased.partition("\n## ")[0], re.MULTILINE)
    assert groups == [
        group
        for group in ("Security", "Removed", "Deprecated", "Added", "Changed", "Fixed")
        if group in groups
    ]
