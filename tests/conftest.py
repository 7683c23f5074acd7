"""What all tests share: the fixtures that start daemons, and an end that leaves none of them."""

import os
import signal
from pathlib import Path

import pytest

from tests import parallel

pytest_plugins = ["apihour.testing.plugin", "tests.postgres", "tests.databases"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores it for what it runs in the background, and so would every process here.
    signal.signal(signal.SIGINT, signal.default_int_handler)

RUN = os.getpid()


def interrupt(sig, frame):
    """SIGTERM, as of ``timeout`` or a cancelled job: like Ctrl-C, so that fixtures end daemons."""
    if os.getpid() == RUN:
        raise KeyboardInterrupt
    signal.signal(sig, signal.SIG_DFL)  # a fork of a test's
    os.kill(os.getpid(), sig)


signal.signal(signal.SIGTERM, interrupt)


def pytest_collection_modifyitems(items):
    parallel.order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    return parallel.make_scheduler(config, log)


@pytest.hookimpl(wrapper=True, tryfirst=True)  # outside of pytest-timeout: waiting is no fault
def pytest_runtest_protocol(item):
    if not hasattr(item.config, "workerinput"):
        return (yield)
    run = Path(item.config.option.basetemp).parent
    with parallel.among_others(run, item.get_closest_marker("alone") is not None):
        return (yield)
