"""What the workers of the gateway and of the services have in common under gunicorn: start, restart, limits."""
