"""The child's side of a fork: from what the arbiter was to a worker; never returns."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from apihour.bind.listeners import Listener
from apihour.books.books import Books
from apihour.books.worker_record import WorkerRecord
from apihour.errors import HookError
from apihour.ipc.signals import ORDERS, STOPS, EarlyExit, hold_off, ignore
from apihour.worker.assignment import Assignment
from apihour.worker.process import HostWorker

__all__ = ["become_worker", "shed"]


def shed(books: Books, kept: Sequence[Listener] = ()) -> None:
    """Let go of what belongs to the arbiter alone, and of every listener but those `kept`."""
    books.ring.detach()
    books.ring.records.clear()
    signal.set_wakeup_fd(-1)
    hold_off([signal.SIGUSR1])  # a worker will want to know of it
    ignore(set(ORDERS) - {signal.SIGUSR1})
    for sig in (*STOPS, signal.SIGCHLD):
        signal.signal(sig, signal.SIG_DFL)
    for part in books.parts:
        part.shed()
    for worker in books.all_workers():
        worker.channel.close()
    if books.has_runtime:
        books.scoreboard.let_go()
    for listener in books.held_listeners():
        # One that is given up later would go on taking connections in here.
        if listener not in kept:
            listener.close()


def become_worker(
    books: Books, given: Assignment, cfg: Any, record: WorkerRecord | None = None
) -> NoReturn:
    """Live as a worker, with `record` forked from the arbiter itself, which has made that."""
    status = 1
    try:
        worker = HostWorker(given, books.app, cfg, books.log)
        if record is not None:
            worker.__dict__.update(record.marks())
        status = _live(books, worker, record)
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


def _live(books: Books, worker: HostWorker, record: WorkerRecord | None) -> int:
    """The worker's life; returns its exit status."""
    try:
        if record is not None:
            shed(books, worker.sockets)
            record.channel.close()
            if record.configuration is not None:
                books.app.use(record.configuration)
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
