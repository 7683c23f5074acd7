"""Reloads and upgrades under way: one at a time, each answered to whoever asked.

Rules: requests for a reload that come during one become one more, with the most canaries that
any of them asked for; an upgrade and a reload exclude each other; a rollback ends the reload
under way, unless that has replaced workers already; told to stop, all end at once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

from apihour.books.books import Books
from apihour.books.children import Children
from apihour.books.part import ArbiterPart, nothing
from apihour.errors import ApihourError
from apihour.ipc.scoreboard import Figure
from apihour.reload.reload import Phase, Reload
from apihour.template.templates import Templates
from apihour.upgrade.leftovers import look_for_leftovers
from apihour.upgrade.upgrade import Upgrade

__all__ = ["Changes", "Waiter", "previous"]

Waiter = Callable[[dict[str, Any], str], None]
"""Called once with the outcome, as a record, and the traceback, empty if there is none."""


class Changes(ArbiterPart):
    """What of this kind the arbiter is doing."""

    def __init__(
        self, books: Books, prober: Templates, crew: Children, configure: Callable[[], None],
        follow: Callable[[], None],
    ) -> None:
        self.books = books
        self._parts = (prober, crew, configure, follow)
        self._reload: Reload | None = None
        self.upgrade: Upgrade | None = None
        self._waiters: list[Waiter] = []
        self._again: list[Waiter] | None = None
        self._canary: int | None = None  # of the reload after the present one

    @property
    def reload(self) -> Reload | None:
        """The reload under way."""
        return self._reload

    @reload.setter
    def reload(self, reload: Reload | None) -> None:
        self._reload = self.books.reload = reload

    def is_busy(self) -> bool:
        return self.reload is not None or self.upgrade is not None

    def watched(self) -> Mapping[int, Callable[[], None]]:
        found = []
        if self.reload is not None and self.reload.probe is not None:
            found.append(self.reload.probe.fileno())
        if self.upgrade is not None and self.upgrade.is_open:
            found.append(self.upgrade.fileno())
        return dict.fromkeys(found, nothing)

    def advance(self) -> None:
        """Go on with whatever is under way."""
        if self.upgrade is not None:
            self._advance_upgrade(self.upgrade)
        if self.reload is not None:
            self._advance_reload(self.reload)

    def on_exit(self, pid: int, status: int) -> bool:
        if self.upgrade is None or pid != self.upgrade.pid:
            return False
        self.upgrade.on_exit(status)
        return True

    def stop(self) -> None:
        """Give up what is under way, and say so to whoever waits."""
        if self.reload is not None:
            queued, self._again = self._again or [], None
            self.reload.fail("the daemon stops")
            self._advance_reload(self.reload)
            _answer(queued, {"outcome": "failed", "error": "the daemon stops"})
        if self.upgrade is not None and not self.upgrade.succeeded:
            self.upgrade.abandon()

    def shed(self) -> None:
        if self.upgrade is not None:
            self.upgrade.close()

    # -- reload ----------------------------------------------------------------------------

    def request_reload(self, waiter: Waiter | None, canary: int | None = None) -> None:
        """Begin a reload, or one more after the present one; `canary` as for Reload."""
        waiters = [waiter] if waiter is not None else []
        self._tell_reloading()
        if self.upgrade is not None or self.books.stopping:
            why = "the daemon stops" if self.books.stopping else "an upgrade is under way"
            self._tell_over(why)
            _answer(waiters, {"outcome": "failed", "error": why})
        elif self.reload is not None:
            self._again = [*(self._again or []), *waiters]
            self._canary = max((one for one in (self._canary, canary) if one is not None),
                               default=None)
        else:
            self._begin_reload(waiters, canary)

    def request_rollback(self, waiter: Waiter) -> None:
        """Back to the release before; a reload under way is ended, which is enough then.

        Raises ApihourError when that is not possible.
        """
        if self.upgrade is not None or self.books.stopping:
            raise ApihourError(
                "the daemon stops" if self.books.stopping else "an upgrade is under way")
        if self.reload is not None and self.reload.release:
            raise ApihourError(f"one to {self.reload.release!r} is under way")
        if self.reload is not None and self.reload.has_replaced:
            raise ApihourError("a reload is under way and has replaced workers; "
                               "expected it to be over")
        if self.reload is not None:
            self._end_reload(self.reload, waiter)
            return
        release = previous(self.books.releases)
        self.books.log.info("Rolling back to %s", release)
        self._tell_reloading()
        # It served: nothing is to be watched before all workers run it.
        self._begin_reload([waiter], 0, release)

    def _end_reload(self, reload: Reload, waiter: Waiter) -> None:
        queued, self._again, self._canary = self._again or [], None, None
        why = "ended by a rollback"
        reload.fail(why)
        self._advance_reload(reload)
        _answer(queued, {"outcome": "failed", "error": why})
        waiter({**reload.outcome(), "outcome": "done", "generation": self.books.generation,
                "workers": len(self.books.live_workers()), "error": "",
                "release": self.books.releases[-1]}, "")

    def _begin_reload(
        self, waiters: list[Waiter], canary: int | None = None, release: str = ""
    ) -> None:
        try:
            reload = Reload(self.books, *self._parts, canary=canary, release=release)
            reload.start()
        except OSError as error:
            why = f"no probe process: {error.strerror}"
            self.books.log.error("Reload refused: %s", why)
            self._tell_over(why)
            _answer(waiters, {"outcome": "failed", "error": why})
        else:
            self.reload, self._waiters = reload, waiters

    def _advance_reload(self, reload: Reload) -> None:
        reload.advance()
        if not reload.is_over:
            return
        self.reload = None
        outcome = reload.outcome()
        log, scoreboard = self.books.log, self.books.scoreboard
        if reload.phase is Phase.DONE:
            scoreboard.count_figure(Figure.RELOADS)
            log.info("Reload done: generation %d serves with %d workers after %.1f s",
                     reload.generation, outcome["workers"], outcome["seconds"])
        else:
            scoreboard.count_figure(Figure.RELOADS_FAILED)
            log.error("Reload refused, the old workers stay: %s", reload.error)
            if reload.detail:
                log.error("%s", reload.detail.rstrip())
        waiters, self._waiters = self._waiters, []
        _answer(waiters, outcome, reload.detail)
        if self._again is None:
            self._tell_over(reload.error)
        else:
            again, self._again = self._again, None
            canary, self._canary = self._canary, None
            self._begin_reload(again, canary)

    def _tell_reloading(self) -> None:
        # Of CLOCK_MONOTONIC, by sd_notify(3); a time before the request would not be believed.
        self.books.tell_service("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}",
                                "STATUS=apihour reloads")

    def _tell_over(self, error: str) -> None:
        """Tell the service manager that no reload is under way any more."""
        if self.books.ever_ready:
            self.books.tell_service(
                "READY=1", f"STATUS=apihour serves, generation {self.books.generation}"
                + (f"; reload refused: {error}" if error else ""))

    # -- upgrade ---------------------------------------------------------------------------

    def request_upgrade(self, waiter: Waiter | None) -> str | None:
        """Begin a binary upgrade; returns one line when it is refused."""
        books = self.books
        if books.stopping:
            return "the daemon stops"
        if books.pid == 1:
            return "this arbiter is PID 1: its end would end the container; deploy a new one"
        if self.upgrade is not None:
            return "an upgrade is under way already"
        if self.reload is not None:
            return "a reload is under way"
        if books.taking_over:
            return "this arbiter is itself still taking over"
        try:
            upgrade = Upgrade(books, waiter)
            upgrade.start()
        except OSError as error:
            return f"no new process: {error.strerror}"
        except ApihourError as error:
            return str(error)
        self.upgrade = upgrade
        look_for_leftovers(books)
        return None

    def _advance_upgrade(self, upgrade: Upgrade) -> None:
        upgrade.advance()
        if upgrade.failed is not None:
            self.books.log.error("Upgrade failed, this arbiter stays: %s", upgrade.failed)
            self.upgrade = None
        elif upgrade.succeeded:
            self.books.log.info("Upgrade done: arbiter %d serves, this one leaves", upgrade.pid)


def _answer(waiters: list[Waiter], outcome: dict[str, Any], detail: str = "") -> None:
    for waiter in waiters:
        waiter(outcome, detail)


def previous(releases: list[str]) -> str:
    """The directory of the release before. Raises ApihourError when there is none."""
    if len(releases) < 2:
        raise ApihourError(
            f"no release to go back to: all generations ran in {releases[0]!r}, but those "
            "that a rollback has left; expected releases in directories of their own, and a "
            "start in a link to the present one")
    if not os.path.isdir(releases[-2]):
        raise ApihourError(
            f"no release to go back to: {releases[-2]!r} is gone; expected it kept")
    return releases[-2]
