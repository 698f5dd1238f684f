"""Demo data: a shop with three projects, twelve experiments in all states, and 50,000 visitors.

Everything goes through the services' HTTP interfaces, events through `/v1/events` as an SDK would send
them: every figure that the API shows afterwards was computed.
"""

from optimizely_api.demo.client import DemoError
from optimizely_api.demo.loader import DemoSummary, load_demo

__all__ = ["DemoError", "DemoSummary", "load_demo"]
