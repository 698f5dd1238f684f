"""What the services have in common over HTTP: application, errors, bodies, limits, server."""
