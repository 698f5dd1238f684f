"""What the stub of the services answers: whole HTTP answers, made once for each target."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl

from optimizely_api.comparison.stub import entities as stub_entities
from optimizely_api.comparison.stub.protocol import http_answer, http_error

REMEMBERED_ANSWERS = 20_000

Route = tuple[str, str, Callable[..., bytes]]
"""Method, pattern of the path, and what makes the answer of the pattern's groups."""


class Answers:
    """Whole HTTP answers by service, method and target; the same for as long as the process lives."""

    def __init__(self, fan_out: int) -> None:
        self._fan_out = fan_out
        self._remembered: dict[tuple[str, bytes, bytes], bytes] = {}

    def find(self, service: str, method: bytes, target: bytes) -> bytes:
        key = (service, method, target)
        answer = self._remembered.get(key)
        if answer is None:
            answer = self._make(*key)
            if len(self._remembered) < REMEMBERED_ANSWERS:
                self._remembered[key] = answer
        return answer

    def _make(self, service: str, method: bytes, target: bytes) -> bytes:
        path, _, query = target.decode("latin-1").partition("?")
        for expected, pattern, make in self._routes(service, dict(parse_qsl(query))):
            if found := re.fullmatch(pattern, path):
                if method.decode("latin-1") != expected:
                    return http_error(405, "method_not_allowed")
                return make(*found.groups())
        return http_error(404, "not_found")

    def _routes(self, service: str, query: Mapping[str, str]) -> list[Route]:
        fan_out = self._fan_out

        def one(entity: object) -> bytes:
            return http_answer(200, entity)

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
        return http_answer(200, stub_entities.experiments_page(layer_id, page, per_page, self._fan_out))
