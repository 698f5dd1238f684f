"""Datafiles: what SDKs read to know the experiments and features of an environment.

`content.py` says what is in one, `targeting.py` who takes part, `buckets.py` who gets which part of the traffic.
`build.py` builds and stores datafiles in the transaction of each change, `upkeep.py` when the time of a schedule has
come. Environments are the projects service's: the gateway names them here whenever it has read or written one
(`endpoints.py`).

A release that changes what is in datafiles sets their `next_change` to the past in a migration; then all are built
anew.
"""
