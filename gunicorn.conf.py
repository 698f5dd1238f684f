"""Found by gunicorn in this folder: makes `gunicorn --paste production.ini` obey the file's [server:...] section."""

from optimizely_api.runtime.server.ini_section import obeyed

globals().update(obeyed())
