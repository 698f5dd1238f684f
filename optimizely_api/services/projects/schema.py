"""The writable properties of accounts, tokens and projects, from the contract's definitions."""

from __future__ import annotations

from optimizely_api.services.schema import (
    BOOLEAN,
    CONFIDENCE_LEVEL,
    ID,
    TEXT,
    Schema,
    list_of,
    nullable,
    object_of,
    one_of,
)

NAME = {"type": "string", "pattern": r"\S"}
SHA256_HEX = {"type": "string", "pattern": "^[0-9a-f]{64}$"}

LIBRARIES = one_of(
    "jquery-1.11.3-trim", "jquery-1.11.3-full", "jquery-1.6.4-trim", "jquery-1.6.4-full", "none"
)
SDKS = one_of("android", "android_tv", "ios", "java", "javascript", "node", "php", "python", "ruby", "tv_os")

WEB_SNIPPET = object_of(
    {
        "enable_force_variation": BOOLEAN,
        "exclude_disabled_experiments": BOOLEAN,
        "exclude_names": BOOLEAN,
        "include_jquery": BOOLEAN,
        "ip_anonymization": BOOLEAN,
        "ip_filter": TEXT,
        "library": LIBRARIES,
        "project_javascript": TEXT,
        "visitor_id_locator_name": nullable(TEXT),
        "visitor_id_locator_type": nullable(one_of("cookie", "query", "localStorage", "js")),
    }
)
WEB_SNIPPET_DEFAULTS = {
    "enable_force_variation": False,
    "exclude_disabled_experiments": False,
    "exclude_names": True,
    "include_jquery": True,
    "ip_anonymization": False,
    "library": "jquery-1.11.3-trim",
}

CHANGEABLE = {
    "confidence_threshold": CONFIDENCE_LEVEL,
    "dcp_service_id": ID,
    "description": TEXT,
    "name": NAME,
    "status": one_of("active", "archived"),
    "web_snippet": WEB_SNIPPET,
}
SET_ONCE = {
    "account_id": ID,
    "is_flags_enabled": BOOLEAN,
    "platform": one_of("web", "ios", "android", "custom"),
    "sdks": list_of(SDKS),
    "third_party_platform": nullable(one_of("salesforce")),
}
PROJECT_DEFAULTS = {
    "confidence_threshold": 0.9,
    "is_flags_enabled": False,
    "platform": "web",
    "status": "active",
}

ACCOUNT = Schema(object_of({"name": NAME}, "name"))
TOKEN = Schema(object_of({"name": NAME, "token_sha256": SHA256_HEX}, "name"))
PROJECT = Schema(object_of({**CHANGEABLE, **SET_ONCE}, "account_id", "name"))
PROJECT_UPDATE = Schema(object_of(CHANGEABLE))
