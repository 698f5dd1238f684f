"""Clients of the three services behind the gateway: calls as values, one session, deadlines.

Nothing here knows Pyramid.
"""
