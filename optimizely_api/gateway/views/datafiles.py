"""`GET /datafiles/{sdk_key}.json`: what SDKs poll. Outside the contract, without a token and open to every page."""

from datetime import datetime
from email.utils import parsedate_to_datetime

from pyramid.request import Request
from pyramid.response import Response
from pyramid.view import view_config

from optimizely_api.gateway.contract.routes import DATAFILE_ROUTE
from optimizely_api.gateway.datafiles import KEPT, Datafile
from optimizely_api.http.codings import preference
from optimizely_api.http.entity_tags import coded_tag

# Whoever keeps one asks each time whether it is the present one.
CACHE_CONTROL = "public, no-cache"


@view_config(route_name=DATAFILE_ROUTE)
async def download_datafile(request: Request) -> Response:
    """200, 304 for a caller that has this revision, or 404; the ETag's 304 is made for all responses alike."""
    datafile: Datafile = await request.registry[KEPT].get(request, request.matchdict["sdk_key"])
    coding = _coding(request, datafile)
    headers = [
        ("ETag", coded_tag(datafile.etag, coding)),
        ("Last-Modified", datafile.last_modified),
        ("Cache-Control", CACHE_CONTROL),
        ("Vary", "Accept-Encoding"),
    ]
    if _has_it(request, datafile):
        return Response(status=304, headerlist=headers)
    if coding is not None:
        headers.append(("Content-Encoding", coding))
    body = await datafile.in_coding(coding)
    return Response(body, headerlist=[("Content-Type", "application/json"), *headers])


def _coding(request: Request, datafile: Datafile) -> str | None:
    from_bytes, accepted = (
        request.registry["settings"].compress_from_bytes,
        request.environ.get("HTTP_ACCEPT_ENCODING"),
    )
    if accepted is None or not from_bytes:
        return None
    wanted = preference(accepted)
    return None if len(datafile.body) < from_bytes and wanted.takes_plain else wanted.coding


def _has_it(request: Request, datafile: Datafile) -> bool:
    """Whether If-Modified-Since names this revision or a later one; If-None-Match goes before it (RFC 9110, 13.1.3).

    A later one is another worker's: an SDK never goes back to an earlier revision.
    """
    since = request.environ.get("HTTP_IF_MODIFIED_SINCE")
    if since is None or "HTTP_IF_NONE_MATCH" in request.environ:
        return False
    if since == datafile.last_modified:
        return True
    try:
        moment: datetime = parsedate_to_datetime(since)
        return moment.tzinfo is not None and moment >= datafile.built
    except (ValueError, OverflowError):
        return False
