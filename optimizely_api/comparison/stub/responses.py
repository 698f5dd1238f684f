"""The stub's responses as complete HTTP messages, cached by target."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from optimizely_api.comparison.stub import entities as stub_entities
from optimizely_api.comparison.stub.protocol import http_error, http_response

CACHED_RESPONSES = 20_000

Route = tuple[str, str, Callable[..., bytes]]
"""Method, pattern of the path, and a function from the pattern's groups to the response."""


class Responses:
    """Complete HTTP responses by service, method and target; they never change."""

    def __init__(self, fan_out: int) -> None:
        self._fan_out = fan_out
        self._cache: dict[tuple[str, bytes, bytes], bytes] = {}

    def get(self, service: str, method: bytes, target: bytes) -> bytes:
        key = (service, method, target)
        response = self._cache.get(key)
        if response is None:
            response = self._make(*key)
            if len(self._cache) < CACHED_RESPONSES:
                self._cache[key] = response
        return response

    def _make(self, service: str, method: bytes, target: bytes) -> bytes:
        path, _, query = target.decode("latin-1").partition("?")
        for expected_method, pattern, make in self._routes(service, dict(parse_qsl(query))):
            if match := re.fullmatch(pattern, path):
                if method.decode("latin-1") != expected_method:
                    return http_error(405, "method_not_allowed")
                return make(*match.groups())
        return http_error(404, "not_found")

    def _routes(self, service: str, query: Mapping[str, str]) -> list[Route]:
        fan_out = self._fan_out

        def one(entity: object) -> bytes:
            return http_response(200, entity)

        health: Route = ("GET", "/healthz", lambda: one({"status": "ok"}))
        routes: dict[str, list[Route]] = {
            "projects": [
                ("GET", "/tokens/([0-9a-f]{64})", lambda sha256: one(stub_entities.token(sha256))),
                ("GET", r"/projects/(\d+)", lambda number: one(stub_entities.project(int(number)))),
            ],
            "experiments": [
                (
                    "GET",
                    r"/experiments/(\d+)",
                    lambda number: one(stub_entities.experiment(int(number), fan_out)),
                ),
                ("GET", r"/layers/(\d+)", lambda number: one(stub_entities.layer(int(number), fan_out))),
                ("GET", "/experiments", lambda: self._experiments(query)),
            ],
            "results": [("POST", r"/results/(\d+)", lambda number: one(stub_entities.results(int(number))))],
        }
        return [health, *routes[service]]

    def _experiments(self, query: Mapping[str, str]) -> bytes:
        try:
            layer_id, page, per_page = (int(query[name]) for name in ("campaign_id", "page", "per_page"))
        except (KeyError, ValueError):
            return http_error(400, "bad_request")
        return http_response(200, stub_entities.experiments_page(layer_id, page, per_page, self._fan_out))
