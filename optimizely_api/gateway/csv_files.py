"""Responses with a CSV file that is made while it is sent."""

from collections.abc import Iterable
from typing import Any

import orjson
from pyramid.response import Response

from optimizely_api.http.entity_tags import entity_tag

# Increase when the same content gives another file: its ETag is that of the content.
_FILE_VERSION = "csv 1"


def csv_file(name: str, content: Any, chunks: Iterable[bytes]) -> Response:
    """200 with a file to download; `chunks` are a function of the JSON value `content`, and made one at a time."""
    response = Response(app_iter=chunks, content_type="text/csv", charset="utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["ETag"] = entity_tag(orjson.dumps(content), _FILE_VERSION)
    return response
