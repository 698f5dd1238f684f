"""The gateway under gunicorn: its worker, HTTP/1.1 protocol, settings and replacement of workers."""
