"""The gateway under gunicorn: its worker, HTTP/1.1 protocol, signals, restarts and limits of open files."""
