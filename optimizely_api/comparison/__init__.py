"""Blocking against asyncio, measured on one's own machine: `optimizely-api compare`.

Each mode is the real application under the real gunicorn (`modes`), behind a real load balancer (`balancer`) and in
front of upstreams with a known delay (`upstreams`). `load` sends requests at a rate that waits for nobody,
`scenarios` says when, `arithmetic` counts, and `report` writes down what was seen.
"""
