"""The child's side of a fork: from what the arbiter was to a worker; never returns."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from apihour.books.books import Books
from apihour.config.configuration import Configuration
from apihour.errors import HookError
from apihour.ipc.signals import STOPS, hold_off
from apihour.worker.assignment import Assignment
from apihour.worker.crashes import EarlyExit
from apihour.worker.process import HostWorker

__all__ = ["become_worker"]


def become_worker(
    books: Books, given: Assignment, cfg: Any, shed: Callable[[], None],
    configuration: Configuration | None = None, marks: dict[str, Any] | None = None,
) -> NoReturn:
    """Let go of what is the arbiter's alone, which `shed` does, and live as a worker.

    `configuration` is what a reload has read; `marks` are put on the worker, for hooks.
    """
    status = 1
    try:
        worker = HostWorker(given, books.app, cfg, books.log)
        worker.__dict__.update(marks or {})
        status = _live(books, worker, shed, configuration)
        hold_off(STOPS)  # it goes already: none may cut the hook short
        try:
            books.hooks.call(cfg, "worker_exit", worker)
        except BaseException:
            books.log.exception("hook worker_exit failed")
        sys.stdout.flush()
        sys.stderr.flush()
    except EarlyExit:  # told once more in the moment before
        status = 0
    except BaseException:
        books.log.exception("Exception in worker process")
    finally:  # whatever happens: nothing of the arbiter's is run here
        os._exit(status)


def _live(
    books: Books, worker: HostWorker, shed: Callable[[], None], configuration: Configuration | None
) -> int:
    """The worker's life; returns its exit status."""
    try:
        shed()
        if configuration is not None:
            books.app.use(configuration)
        for listener in books.listeners:
            # One that this reload gives up would go on taking connections in here.
            if listener not in worker.sockets:
                listener.close()
        if worker.cfg is not books.cfg:
            worker.log.setup(worker.cfg)
        books.log.debug("Booting worker %s with pid: %s", worker.name, os.getpid())
        books.hooks.demand(worker.cfg, "post_fork", worker)
        worker.init_process()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    except HookError as error:
        worker.report_failure(error)
        return worker.exit_code
    except BaseException:
        books.log.exception("Exception in worker process")
        return 1
    return 0
