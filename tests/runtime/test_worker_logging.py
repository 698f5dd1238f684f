"""gunicorn's own access log: made when somebody reads it, and not gathered in vain."""

import os

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.instrument.statsd import Statsd

from optimizely_api.runtime.server.worker import spare_unread_access_log


@pytest.fixture
def configured():
    """Make a gunicorn logger whose access log is wanted, and give that log a level."""

    def make(level, kind=Logger):
        config = Config()
        config.set("accesslog", os.devnull)
        config.set("statsd_host", "127.0.0.1:9")
        log = kind(config)
        log.access_log.setLevel(level)
        logs.append(log)
        return log

    logs = []
    yield make
    for log in logs:
        for handler in list(log.access_log.handlers):
            handler.close()
            log.access_log.removeHandler(handler)
        if isinstance(log, Statsd):
            log.sock.close()


def test_an_access_log_that_no_logger_takes_is_spared(configured):
    log = configured("CRITICAL")
    assert log.access_log_enabled
    spare_unread_access_log(log)
    assert not log.access_log_enabled


def test_an_access_log_that_is_read_stays(configured):
    log = configured("INFO")
    spare_unread_access_log(log)
    assert log.access_log_enabled


def test_a_logger_that_counts_requests_goes_on_counting(configured):
    log = configured("CRITICAL", Statsd)
    spare_unread_access_log(log)
    assert log.access_log_enabled
