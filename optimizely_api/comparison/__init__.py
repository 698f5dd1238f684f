"""Compares blocking and asyncio gateways on one machine: `optimizely-api compare`.

Each mode is the real application under the real gunicorn, behind a real load balancer and in front of upstreams with a
known delay (`rig`, `stub`). `load` sends requests at a fixed rate, whether or not earlier responses have come.
`scenarios` defines the measurements; `report` counts and presents the results.
"""
