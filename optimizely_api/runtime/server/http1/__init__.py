"""HTTP/1 for the gateway: llhttp (`httptools`) parses heads and chunks, bodies are read on demand, and a response is
one write.
"""
