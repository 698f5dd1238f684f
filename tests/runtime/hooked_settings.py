"""gunicorn settings with a hook that this worker does not call."""


def pre_request(worker, req):
    pass
