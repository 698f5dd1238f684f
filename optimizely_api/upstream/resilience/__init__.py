"""What keeps a failing or slow service from failing or slowing its callers; `order.py` says what comes after what.

Each part is small, knows no framework, and gets its clock and its source of chance from outside: the tests move time by
hand. The parts of one service are put together in `policies.py`.
"""
