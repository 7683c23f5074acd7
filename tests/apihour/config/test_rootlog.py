"""Records that nobody has a handler for, and how an application's own logging wins."""

from __future__ import annotations

import contextvars
import functools
import io
import logging
from collections.abc import Callable
from typing import Any

import pytest

from apihour.config.log import HostLogger
from apihour.config.rootlog import SERVER
from apihour.config.settings import HostConfig
from apihour.ops.logring import LogRing
from tests.apihour.loggers import loggers

__all__ = ["loggers"]

pytestmark = pytest.mark.usefixtures("loggers")


def bare(test: Callable[..., None]) -> Callable[..., None]:
    """Run a test with the root logger as in a fresh process: without pytest's handlers."""

    @functools.wraps(test)
    def run(*args: Any, **options: Any) -> None:
        root = logging.getLogger()
        before, root.handlers[:] = list(root.handlers), []
        try:
            test(*args, **options)
        finally:
            root.handlers[:] = before

    return run


def make(**options: object) -> tuple[HostLogger, io.StringIO]:
    cfg = HostConfig()
    for name, value in options.items():
        cfg.set(name, value)
    host, stream = HostLogger(cfg), io.StringIO()
    host.error_log.handlers[:] = [logging.StreamHandler(stream)]
    return host, stream


@bare
def test_a_record_of_nobodys_goes_to_the_daemons_log() -> None:
    host, stream = make()
    logging.getLogger("shop").info("hello %s", "there")
    logging.getLogger("shop").debug("of no interest")
    host.fallback.worker = "2.1"
    contextvars.copy_context().run(SERVER.set, "echo")
    logging.getLogger("shop").warning("worn")
    assert stream.getvalue() == "shop: hello there\nWorker 2.1: shop: worn\n"
    assert logging.getLogger().handlers == []


@bare
def test_the_server_is_that_of_the_context() -> None:
    _, stream = make()
    context = contextvars.copy_context()
    context.run(SERVER.set, "echo")
    context.run(logging.getLogger("shop").info, "served")
    logging.getLogger("shop").info("not served")
    assert stream.getvalue() == "server 'echo': shop: served\nshop: not served\n"


@bare
def test_the_level_is_the_daemons_and_follows_it() -> None:
    host, stream = make(loglevel="error")
    logging.getLogger("shop").warning("too low")
    host.setup(HostConfig())
    logging.getLogger("shop").info("fine")
    assert "too low" not in stream.getvalue()
    assert logging.getLogger().level == logging.INFO


@bare
def test_the_functions_of_the_module_configure_nothing() -> None:
    _, stream = make()
    logging.warning("by the root")
    logging.basicConfig()
    assert logging.getLogger().handlers == []
    assert stream.getvalue() == "by the root\n"


@bare
def test_a_configuration_of_the_applications_own_wins() -> None:
    _, stream = make()
    own = io.StringIO()
    logging.basicConfig(stream=own, format="mine %(message)s")
    logging.getLogger("shop").info("hello")
    assert (own.getvalue(), stream.getvalue()) == ("mine hello\n", "")


@bare
def test_wrong_arguments_do_not_raise_where_they_stand() -> None:
    _, stream = make()
    logging.getLogger("shop").info("%d orders", "many")
    assert stream.getvalue() == ("shop: '%d orders' % ('many',): TypeError: %d format: a real "
                                 "number is required, not str\n")


@pytest.mark.parametrize("on_root", [False, True])
@bare
def test_the_ring_has_each_record_once_and_as_it_was(on_root: bool) -> None:
    host, stream = make()
    ring = LogRing()
    ring.attach(host.error_log, logging.getLogger() if on_root else None)
    logging.getLogger("shop").info("hello")
    host.error_log.info("the daemon's")
    assert [(r.logger, r.message) for r in ring.records] == [
        ("shop", "hello"), ("gunicorn.error", "the daemon's")]
    assert stream.getvalue().count("shop: hello") == 1
    ring.detach()


@bare
def test_levels_of_handlers_are_obeyed() -> None:
    host, stream = make()
    host.error_log.handlers[0].setLevel(logging.ERROR)
    logging.getLogger("shop").warning("too low")
    assert stream.getvalue() == ""


@bare
def test_without_handlers_of_the_daemons_it_is_as_it_was(
    capsys: pytest.CaptureFixture[str]
) -> None:
    host, _ = make()
    host.error_log.handlers.clear()
    logging.getLogger("shop").warning("bare")
    assert "bare" in capsys.readouterr().err
