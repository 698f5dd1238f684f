"""Results as a CSV file that is made while it is sent."""

from collections.abc import Sequence
from typing import Any

import orjson
from pyramid.response import Response

from optimizely_api.gateway.composition.results_csv import Column, csv_chunks
from optimizely_api.http.entity_tags import entity_tag

# Increase when the same content gives another file: its ETag is that of the content.
_FILE_VERSION = "csv 1"


def results_file(of: str, columns: Sequence[Column], results: Any) -> Response | None:
    """200 with a file to download, named after the `of`, "experiment" or "campaign"; None without results."""
    if results is None:
        return None
    response = Response(app_iter=csv_chunks(columns, results), content_type="text/csv", charset="utf-8")
    name = f"{of}_{results[f'{of}_id']}_results.csv"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    response.headers["ETag"] = entity_tag(orjson.dumps(results), _FILE_VERSION)
    return response
