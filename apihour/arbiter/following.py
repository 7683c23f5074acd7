"""What stands round the workers and follows a reload: logging, keeper, template, console."""

from __future__ import annotations

from collections.abc import Callable

from apihour.arbiter.console import ConsoleKeeper
from apihour.arbiter.keep import WorkerKeeper
from apihour.books.books import Books
from apihour.ops.logring import LogRing
from apihour.template.templates import Templates

__all__ = ["Followers"]


class Followers:
    """Told by a reload what it has put in force."""

    def __init__(
        self, books: Books, setup: Callable[[], None], ring: LogRing, keeper: WorkerKeeper,
        templates: Templates, consoles: ConsoleKeeper,
    ) -> None:
        """`setup` is gunicorn's taking over of the application's configuration."""
        self.books = books
        self._setup = setup
        self._ring = ring
        self._keeper = keeper
        self._templates = templates
        self._consoles = consoles

    def configure(self) -> None:
        """The application's configuration is in force now: take it over, logging too."""
        self._setup()
        self.books.log.reopen_files()
        self._ring.detach()  # a logging configuration may have taken its place
        self._ring.attach(self.books.log.error_log)

    def follow(self) -> None:
        """Another generation serves."""
        self._templates.keep_only(self.books.generation)
        self._keeper.on_new_generation()
        ready = [worker for worker in self.books.live_workers() if worker.ready]
        if ready:
            self._consoles.manage(ready[0].report)
