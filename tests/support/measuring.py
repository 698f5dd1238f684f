"""What tests of the commands that measure share: whether they can run, and that they leave nothing behind."""

import psutil
import pytest

from optimizely_api.comparison.options import CannotCompare
from optimizely_api.comparison.rig import balancer
from optimizely_api.comparison.rig.processes import is_listening


def have_balancer():
    try:
        return bool(balancer.find())
    except CannotCompare:
        return False


needs_haproxy = pytest.mark.skipif(not have_balancer(), reason="HAProxy is not installed")


def family(process):
    return psutil.Process(process.pid).children(recursive=True)


def assert_gone(processes, ports):
    left = [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert left == []
    assert not any(is_listening(port) for port in ports)
