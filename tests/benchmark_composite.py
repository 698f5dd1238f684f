"""How much the gateway adds to the composite's critical path: `python -m tests.benchmark_composite`.

Every upstream answers after 20 ms. The composite has two steps after the token is known, so that 40 ms is the least
possible, and 80 ms what four calls one after the other would take.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import requests

from tests.support import samples
from tests.support.asserting import AUTHORIZED
from tests.support.services_double import ServicesDouble
from tests.support.serving import Served, serve

RESULTS = f"/v2/experiments/{samples.EXPERIMENT}/results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--delay-ms", type=float, default=20)
    options = parser.parse_args()
    double = ServicesDouble()
    double.start()
    try:
        with tempfile.TemporaryDirectory() as folder:
            settings = {**double.settings(), "identity_cache_seconds": "600"}
            with serve("main", settings, Path(folder) / "gunicorn.log", "--workers", "1") as served:
                report(double, served, options.requests, options.delay_ms)
    finally:
        double.stop()


def report(double: ServicesDouble, served: Served, number: int, delay_ms: float) -> None:
    session = requests.Session()
    for without_delay in (True, False):
        for manners in double.manners.values():
            manners.delay_seconds = 0 if without_delay else delay_ms / 1000
        took = sorted(1000 * _one(session, served.url + RESULTS) for _ in range(number))[
            : number - number // 100
        ]
        p50 = statistics.median(took)
        path = 0 if without_delay else 2 * delay_ms
        print(
            f"upstream delay {0 if without_delay else delay_ms:g} ms: p50 {p50:.1f} ms, p99 {took[-1]:.1f} ms, "
            f"critical path {path:g} ms, sum {2 * path:g} ms"
        )


def _one(session: requests.Session, url: str) -> float:
    started = time.perf_counter()
    assert session.get(url, headers=AUTHORIZED, timeout=10).status_code == 200
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
