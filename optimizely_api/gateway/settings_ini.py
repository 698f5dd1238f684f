"""The settings as text for an ini file: each at its default, with its meaning, unit and bound above it.

`make settings` writes them into production.ini, so that meanings are written once, in `settings.py`.
"""

import dataclasses
import re
import textwrap

from optimizely_api.gateway.settings import ENVIRONMENT_PREFIX, TEXT_SETTINGS, Settings

WIDTH = 110  # characters of a line, as elsewhere in production.ini

# {the first setting of a group: the group's heading}; a group ends where the next one begins.
HEADINGS = {
    "projects_url": "The services, and the key that they share with the gateway",
    "request_deadline_seconds": "Time limits of a request and of its calls to the services",
    "upstream_connections": "Limits of calls to the services",
    "coalesce_calls": "Calls that need not be made (the blocking applications make them all)",
    "campaign_fan_out": "Results of campaigns",
    "identity_cache_seconds": "Tokens",
    "max_request_body_bytes": "Limits of what a client sends",
    "compress_from_bytes": "Compression of responses",
    "header_timeout_seconds": "Time limits of a client's connection",
    "stall_warning_seconds": "Warnings in the log",
    "overload_wait_seconds": "Overload",
    "plan_name": "The plan, and what accounts use of it",
}
UNITS = {"_seconds": "seconds", "_bytes": "bytes"}
KINDS: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    str: "an http or https address",
}

_SECTION = re.compile(r"^\[DEFAULT\]\n.*?(?=^\[)", re.MULTILINE | re.DOTALL)


def default_section() -> str:
    """The [DEFAULT] section with every setting of the gateway, in the order of `Settings`."""
    lines = [
        "[DEFAULT]",
        "# Every setting, commented out at its default.",
        f"# {ENVIRONMENT_PREFIX}<NAME IN CAPITALS> in the environment wins over this file.",
        "# `make settings` writes the comments of this section from optimizely_api/gateway/settings.py.",
    ]
    for item in dataclasses.fields(Settings):
        if item.name in HEADINGS:
            lines += ["", f"# --- {HEADINGS[item.name]} ---"]
        lines += ["", *_comment(f"{item.metadata['meaning']} {_value(item)}")]
        lines.append(f"# {item.name} = {item.default}".rstrip())
    return "\n".join(lines) + "\n\n"


def with_settings(ini: str) -> str:
    """The text of an ini file with its [DEFAULT] section replaced; raises ValueError if it has none.

    What somebody set there is lost: this is for the file that shows the defaults.
    """
    written, found = _SECTION.subn(lambda _: default_section(), ini, count=1)
    if not found:
        raise ValueError("no [DEFAULT] section that another section follows")
    return written


def _value(item: "dataclasses.Field[object]") -> str:
    """What may be set, as in "(seconds; at least 0.01)"."""
    if item.name in TEXT_SETTINGS:
        return "(text)"
    kind = next((unit for end, unit in UNITS.items() if item.name.endswith(end)), None) or KINDS[item.type]
    least = item.metadata["at_least"]
    return f"({kind})" if least is None else f"({kind}; at least {least})"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
