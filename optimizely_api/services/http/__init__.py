"""The HTTP side that all services share: application, errors, bodies, query, responses, limits, server."""
