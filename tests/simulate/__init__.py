"""The composite under all policies of its calls, on virtual time: `python -m tests.simulate --help`.

The code that runs is the gateway's own, from the view down to the bytes of HTTP: `upstream/caching/`,
`upstream/resilience/` and `upstream/transport/` with aiohttp's connector. Simulated are the event loop
(`virtual_loop.py`), the network (`network.py`) and the services (`services.py`) with their outages (`outages.py`).
"""
