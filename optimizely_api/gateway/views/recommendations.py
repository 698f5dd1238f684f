"""Recommendations: CSV files that a recommender wrote, from the folder that the operator puts them in.

<recommendations_folder>/<account id>/<catalog id>/catalog/2026-01-31.csv
<recommendations_folder>/<account id>/<catalog id>/stats/2026-01-31.csv
<recommendations_folder>/<account id>/<catalog id>/recommenders/<recommender id>/2026-01-31.csv
"""

import asyncio
import errno
from pathlib import Path

from pyramid.request import Request
from pyramid.response import Response

from optimizely_api.gateway.errors import NotFound
from optimizely_api.gateway.resource import operation
from optimizely_api.gateway.views.impressions_usage import read_day

NO_SUCH_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)


@operation
async def get_recs_catalog_csv(request: Request) -> Response:
    return await _file(request, "catalog")


@operation
async def get_recs_stats_csv(request: Request) -> Response:
    return await _file(request, "stats")


@operation
async def get_recs_output_csv(request: Request) -> Response:
    return await _file(request, f"recommenders/{request.swagger_data['recommender_id']}")


async def _file(request: Request, place: str) -> Response:
    """The file of the day; raises BadRequest for no such day, and NotFound, also where nothing is set up."""
    query = request.swagger_data
    day = read_day(query["date"], "/path/date")
    folder = request.registry["settings"].recommendations_folder
    of_account = Path(folder) / str(request.identity.account_id)
    # The path holds digits and what is written here, so that it cannot lead out of the folder.
    file = of_account / query["catalog_id"] / place / f"{day}.csv"
    content = await asyncio.to_thread(_read, of_account, file) if folder else None
    if content is None:
        raise NotFound(
            "file of the account's recommendations: this installation computes none, and serves the files of a"
            " recommender once the setting recommendations_folder names a folder that has one for the account,"
            f" {request.identity.account_id}"
        )
    return Response(content, content_type="text/csv", charset="utf-8")


def _read(of_account: Path, file: Path) -> bytes | None:
    """The content of the file; None without a folder of the account, NotFound without the file."""
    if not of_account.is_dir():
        return None
    try:
        return file.read_bytes()
    except OSError as exc:
        if exc.errno not in NO_SUCH_FILE:
            raise
        raise NotFound(f"file {file.relative_to(of_account)} of the account's recommendations") from None
