"""The parts of the arbiter that most daemons never open: each joins the books' when asked for.

Rule: each is imported where it is opened, so a door leads to every one of them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apihour.arbiter.console import ConsoleKeeper
from apihour.arbiter.keep import WorkerKeeper
from apihour.books.books import Books
from apihour.books.children import Children

if TYPE_CHECKING:
    from apihour.arbiter.autoscale import LoadWatch
    from apihour.arbiter.replacing import Replacements
    from apihour.orders.requests import ArbiterCommands
    from apihour.reload.changes import Changes
    from apihour.template.templates import Templates

__all__ = ["Openers"]


@dataclass(eq=False, repr=False)
class Openers:
    """Opens them; `setup` takes over an application's configuration, `signal` queues a signal."""

    books: Books
    children: Children
    keeper: WorkerKeeper
    consoles: ConsoleKeeper
    setup: Callable[[Any], None]
    signal: Callable[[int], None]

    def find_service(self, is_upgrade: bool) -> None:
        """The service manager that started this daemon and waits for a word."""
        from apihour.arbiter.service_manager import ServiceManager

        service = ServiceManager(self.books.log, os.environ, os.getpid(), is_upgrade)
        self.books.tell_service = service.tell
        self.books.parts.append(service)

    def open_asked(self) -> None:
        """What the configuration asks for; each looks itself whether that is still wanted."""
        cfg = self.books.cfg
        if cfg.worker_count.minimum != cfg.worker_count.maximum:
            _ = self.load_watch
        if cfg.max_requests or cfg.max_age or cfg.max_rss:
            _ = self.replacements

    @functools.cached_property
    def load_watch(self) -> LoadWatch:
        """With a range of workers."""
        from apihour.arbiter.autoscale import LoadWatch

        watch = LoadWatch(self.books)
        self.books.parts.append(watch)
        return watch

    @functools.cached_property
    def replacements(self) -> Replacements:
        """With workers that wear out, and for operators."""
        from apihour.arbiter.replacing import Replacements

        replacements = Replacements(self.books, self.keeper, self.children)
        self.books.parts.append(replacements)
        return replacements

    @functools.cached_property
    def templates(self) -> Templates:
        """Another way to fork: with ``--template``, which a reload may bring."""
        from apihour.template.templates import Templates

        templates = Templates(self.books)
        self.children.fork_elsewhere = templates.fork
        self.books.parts.append(templates)
        return templates

    @functools.cached_property
    def changes(self) -> Changes:
        """Reloads and upgrades, from the first one on."""
        from apihour.reload.changes import Changes

        changes = Changes(
            self.books, self.templates, self.children, self._configure, self._follow)
        self.books.parts.insert(0, changes)
        return changes

    @functools.cached_property
    def commands(self) -> ArbiterCommands:
        """What operators ask for, from the first request on."""
        from apihour.orders.requests import ArbiterCommands
        from apihour.orders.restarts import Restarts

        restarts = Restarts(self.books, self.replacements.replace, self.children)
        self.books.parts.append(restarts)
        return ArbiterCommands(self.books, self.children, self.changes, restarts, self.signal)

    def _configure(self) -> None:
        """Another configuration is in force: take it over, logging too."""
        books = self.books
        self.setup(books.app)
        books.log.reopen_files()
        books.ring.detach()  # a logging configuration may have taken its place
        books.ring.attach(books.log.error_log)
        self.open_asked()

    def _follow(self) -> None:
        """Another generation serves."""
        self.templates.keep_only(self.books.generation)
        self.keeper.on_new_generation()
        ready = [worker for worker in self.books.live_workers() if worker.ready]
        if ready:
            self.consoles.manage(ready[0].report)
