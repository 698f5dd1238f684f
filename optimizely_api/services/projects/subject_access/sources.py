"""The services that have data about visitors."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

TIME_LIMIT = aiohttp.ClientTimeout(total=300.0)  # a heavy visitor has many events
# Identifiers that the services have no data under.
UNKNOWN_TYPES = frozenset({"dcp_id", "email"})


class NotNow(Exception):
    """A service does not do it now; the message says which and why."""


class Refused(Exception):
    """A service does not do it, and would not do it later either."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """A visitor of an account's sites and apps."""

    account_id: int
    key: str


def visitor_of(account_id: int, data_type: str, identifier_type: str, identifier: str) -> Visitor | None:
    """The visitor that a request is about; None where no data is kept under such an identifier."""
    if data_type != "visitor" or identifier_type in UNKNOWN_TYPES:
        return None
    return Visitor(account_id, identifier)


class Sources:
    """What is asked of the services. `session` sends their key, and has TIME_LIMIT."""

    def __init__(self, session: aiohttp.ClientSession, experiments_url: str, results_url: str) -> None:
        """Both URLs are without a slash at their end."""
        self._session, self._experiments_url, self._results_url = session, experiments_url, results_url

    async def erase(self, visitor: Visitor) -> None:
        """Erase the visitor's data, as often as it is called. Raises NotNow and Refused."""
        await self._call(
            "DELETE", f"{self._results_url}/visitors", key=visitor.key, account_id=visitor.account_id
        )
        await self._call(
            "DELETE",
            f"{self._experiments_url}/whitelists",
            user_id=visitor.key,
            account_id=visitor.account_id,
        )

    async def export(self, visitor: Visitor) -> dict[str, bytes]:
        """Files of JSON lines with the visitor's data, by their names. Raises NotNow and Refused."""
        of_account = {"account_id": visitor.account_id}
        data = await self._call("GET", f"{self._results_url}/visitors", key=visitor.key, **of_account)
        url = f"{self._experiments_url}/whitelists"
        entries = orjson.loads(await self._call("GET", url, user_id=visitor.key, **of_account))["items"]
        return {
            "visitor.jsonl": data,
            "whitelists.jsonl": b"".join(orjson.dumps(entry) + b"\n" for entry in entries),
        }

    async def _call(self, method: str, url: str, **query: Any) -> bytes:
        try:
            async with self._session.request(method, url, params=query, allow_redirects=False) as response:
                _check(url, response.status)
                return await response.read()
        except (TimeoutError, aiohttp.ClientError) as exc:
            raise NotNow(f"{url}: {type(exc).__name__}: {exc}") from exc


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A ZIP file of these files."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


def _check(url: str, status: int) -> None:
    if status == 400:
        raise Refused(f"{url} answered {status}")
    if not 200 <= status < 300:
        raise NotNow(f"{url} answered {status}")
