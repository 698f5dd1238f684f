"""HTTP/1 as the gateway speaks it: heads and chunks read by llhttp (`httptools`), bodies read when they are wanted,
one write per response.
"""
