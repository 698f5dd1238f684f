"""Clients of the three services behind the gateway: calls as values, one connector per worker, deadlines.

Nothing here imports Pyramid.
"""
