"""Demo data: a shop with three projects, thirteen experiments in all states and 50,000 visitors, and the rest.

All data are sent by HTTP, events to `/v1/events` as by an SDK, so the API computes every figure that it shows. What has
a date in the past is sent to the services (`past.py`), the rest to the gateway's public operations (`present.py`).
"""

from optimizely_api.demo.client import DemoError
from optimizely_api.demo.loader import DemoSummary, load_demo

__all__ = ["DemoError", "DemoSummary", "load_demo"]
