"""What the workers of the gateway and of the services share under gunicorn: start, reload, limits."""
