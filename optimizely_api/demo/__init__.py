"""Demo data: a shop with three projects, twelve experiments in all states, and 50,000 visitors.

All data are sent to the services by HTTP, events to `/v1/events` as by an SDK, so the API computes every figure that it
shows.
"""

from optimizely_api.demo.client import DemoError
from optimizely_api.demo.loader import DemoSummary, load_demo

__all__ = ["DemoError", "DemoSummary", "load_demo"]
