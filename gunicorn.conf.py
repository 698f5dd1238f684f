"""Found by gunicorn in this folder: makes `gunicorn --paste production.ini` obey the file's [server:...] section."""

from optimizely_api.server_section import gunicorn_arguments, server_settings

globals().update(server_settings(gunicorn_arguments()))
