"""A reload as a state machine: probe, start the new, prove them, retire the old.

Rules:

- The way of a SIGHUP is this class from top to bottom: :meth:`Reload.start`, then in every turn
  of the arbiter :meth:`Reload.advance` through the phases, then the commit. Nothing waits.
- Until the commit nothing of the old is touched: new configuration, new listeners and new
  workers stand beside it. A failure takes the new away and leaves the old as it was.
- With ``--surge N`` at most N workers more than wanted live at a time, so old ones retire
  while later new ones start; with ``--canary N`` the first N are watched before the rest.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable
from typing import Any

from apihour.bind.binds import Binds, is_default
from apihour.bind.listeners import Listener
from apihour.bind.matching import apply
from apihour.bind.sockets import discard, log_binds, open_binds, open_extras, share_out
from apihour.books.books import Books
from apihour.books.children import Children
from apihour.books.probe import ProbeReport
from apihour.books.worker_record import WorkerRecord
from apihour.config.configuration import Configuration, forget_environment
from apihour.errors import ApihourError, ConfigurationError
from apihour.ipc.scoreboard import Figure, worker_name
from apihour.template.template_probe import TemplateProbe
from apihour.template.templates import Templates

__all__ = ["Phase", "Reload"]


_MOST_LOSSES = 3  # new workers that may die for no reason of theirs while old ones retire


class Phase(enum.Enum):
    """Where a reload is."""

    PROBING = "probing"
    STARTING = "starting"
    WATCHING = "watching the canary"
    DONE = "done"
    FAILED = "failed"


class Reload:
    """One reload, from the request to its outcome."""

    def __init__(
        self, books: Books, prober: Templates, crew: Children, configure: Callable[[], None],
        follow: Callable[[], None], *, canary: int | None = None, release: str = "",
    ) -> None:
        """`configure` is called when its configuration is in force, `follow` when it serves.

        `canary` replaces the option of that name; `release` is a directory to go back to.
        """
        self.books = books
        self._prober = prober
        self._crew = crew
        self._configure = configure
        self._follow = follow
        self.generation = books.generation + 1
        self.began = time.monotonic()
        self.phase = Phase.PROBING
        self.error = ""
        self.detail = ""
        self.release = release
        self._canary = canary
        self.probe: TemplateProbe | None = None
        self.cfg: Any = None
        self.listeners: list[Listener] = []
        self.extras: dict[str, Listener] = {}
        self.configuration: Configuration | None = None
        self._canary_until = 0.0
        self._surging = False
        self._losses = 0

    @property
    def is_over(self) -> bool:
        return self.phase in (Phase.DONE, Phase.FAILED)

    @property
    def has_replaced(self) -> bool:
        """Whether old workers have retired already, for new ones in their place."""
        return self._surging

    def opened(self) -> list[Listener]:
        """What its workers and its console listen on, kept or opened for it."""
        return [*self.listeners, *self.extras.values()]

    @property
    def workers(self) -> list[WorkerRecord]:
        """The new generation's workers that live now."""
        return [w for w in self.books.live_workers() if w.generation == self.generation]

    def outcome(self) -> dict[str, Any]:
        """One record for whoever asked."""
        return {
            "outcome": self.phase.value, "generation": self.generation,
            "seconds": round(time.monotonic() - self.began, 3),
            "workers": len(self.workers), "error": self.error,
            **({"release": self.release} if self.release else {}),
        }

    def start(self) -> None:
        """Fork the child that imports the new code. Raises OSError."""
        self.probe = self._prober.start_probe(self.release)

    def advance(self) -> None:
        """Go as far as is possible now."""
        try:
            if self.phase is Phase.PROBING:
                self._probe()
            if self.phase is Phase.STARTING:
                self._start()
            if self.phase is Phase.WATCHING:
                self._watch()
        except ApihourError as error:
            self.fail(str(error))

    def fail(self, error: str, detail: str = "") -> None:
        """Take the new away; the old stays as it is."""
        if self.is_over:
            return
        self.phase = Phase.FAILED
        self.error, self.detail = error, detail
        if self.probe is not None:
            self._end_probe()
        self._prober.drop(self.generation)
        self._take_away()
        held = self.books.all_listeners()
        discard([listener for listener in self.opened() if listener not in held], held)

    def _take_away(self) -> None:
        """Retire the new workers, but for those that serve where old ones have retired.

        These too, if they have other sockets: they would keep what was opened for this reload.
        """
        new, held = self.workers, self.books.listeners
        slots = {w.slot for w in self.books.live_workers() if w not in new}
        for worker in new:
            if (self._surging and worker.ready and worker.slot not in slots
                    and worker.sockets == held):
                worker.generation = self.books.generation
                worker.row.generation = self.books.generation
                worker.name = worker_name(worker.slot, worker.generation)
            else:
                self._crew.retire(worker)

    # -- phases ----------------------------------------------------------------------------

    def _end_probe(self) -> None:
        if self.probe is not None:
            self.probe.kill()
            self.probe.close()
            self.probe = None

    def _probe(self) -> None:
        if self.probe is None:
            return
        report = self.probe.poll()
        if report is None:
            if time.monotonic() - self.began > self.books.cfg.boot_timeout:
                self.fail(
                    f"the application did not import within {self.books.cfg.boot_timeout:g} s"
                )
            return
        self._prober.settle(self.generation, self.probe)
        self.probe.close()
        self.probe = None
        if report.error:
            self.fail(report.error, report.detail)
            return
        self._prepare(report)

    def _prepare(self, report: ProbeReport) -> None:
        """New configuration and new listeners, beside the old ones.

        The old configuration is in force: what replaces an old worker meanwhile, or after a
        refusal, is of the old kind.
        """
        fresh: Configuration = self.books.app.read(self.release)
        wanted = fresh.resolve(report.binds)
        self._refuse_lost_binds(is_default(report.binds, fresh.bind_levels), wanted)
        with fresh.entered():
            self.listeners = open_binds(wanted, fresh.cfg, self.books.wanted_slots(fresh.cfg),
                                        self.books.listeners, {})
            self.extras = open_extras(fresh.cfg, self.books.extras)
        self.configuration, self.cfg = fresh, fresh.cfg
        self.phase = Phase.STARTING

    def _refuse_lost_binds(self, is_default: bool, wanted: Binds) -> None:
        """The default is for a first start: nobody moves a daemon there by leaving binds out."""
        held = list(dict.fromkeys(str(x) for x in self.books.listeners))
        if not is_default or {
            (x.name, x.address.place) for x in self.books.listeners
        } <= {(name, x.place) for name, addresses in wanted.items() for x in addresses}:
            return
        raise ConfigurationError(
            f"no binds are left: neither the container nor the configuration has any, and the "
            f"daemon serves {', '.join(held)}; expected at least one, or 'binds = None' on a "
            "container that serves nothing")

    def _start(self) -> None:
        books, cfg = self.books, self.cfg
        wanted = books.wanted_workers(cfg)
        for worker in self.workers:
            if worker.slot > wanted:
                self._crew.retire(worker)  # fewer are wanted since it was started
        ready = [worker for worker in self.workers if worker.ready]
        asked = cfg.canary if self._canary is None else self._canary
        canaries = min(asked, wanted) if self._canary_until == 0.0 else 0
        if canaries and len(ready) >= canaries:
            self.phase = Phase.WATCHING
            self._canary_until = time.monotonic() + cfg.canary_time
            books.log.info("Reload: %d canary workers ready, watching them for %g s",
                           len(ready), cfg.canary_time)
            return
        if cfg.surge and not canaries:
            self._replace_as_ready(ready, wanted)
        if len(ready) >= wanted:
            self._commit()
        else:
            self._spawn_missing(canaries or wanted, wanted)

    def _spawn_missing(self, target: int, wanted: int) -> None:
        """Start new workers up to `target`, and to the surge, in the slots that have none."""
        cfg, workers = self.cfg, self.workers
        taken = {worker.slot for worker in workers}
        room = target - len(workers)
        if cfg.surge:
            room = min(room, wanted + cfg.surge - len(self.books.live_workers()))
        free = [slot for slot in range(1, wanted + 1) if slot not in taken]
        try:
            for slot in free[: max(0, room)]:
                self._crew.spawn(slot, self.generation, self.listeners, cfg, self.configuration)
        except OSError as error:
            self.fail(f"no new worker: {error.strerror}")

    def _replace_as_ready(self, ready: list[WorkerRecord], wanted: int) -> None:
        """Retire one old worker for each new one beyond the surge."""
        old = [w for w in self.books.live_workers() if w.generation != self.generation]
        old.sort(key=lambda worker: worker.slot)
        while old and len(old) + len(ready) > wanted:
            self._crew.retire(old.pop(0))
            self._surging = True

    def _watch(self) -> None:
        workers = self.workers
        requests = sum(worker.row.requests for worker in workers)
        errors = sum(worker.row.errors for worker in workers)
        over = time.monotonic() >= self._canary_until
        # A few answers prove little, until there will be no more of them.
        if requests >= (1 if over else 20) and errors / requests > self.cfg.canary_errors:
            self.fail(
                f"canary: {errors:g} of {requests:g} responses were 5xx; expected at most "
                f"{self.cfg.canary_errors:.0%}"
            )
        elif over:
            self.phase = Phase.STARTING

    def on_worker_lost(self, worker: WorkerRecord, message: str, detail: str) -> None:
        """A new worker died or could not start."""
        self._losses += 1
        if self._surging and worker.failure is None and self._losses <= _MOST_LOSSES:
            return  # replaced like any other: the code has proven itself
        self.fail(message, detail)

    # -- the commit ------------------------------------------------------------------------

    def _commit(self) -> None:
        """Its configuration, listeners and workers are now the ones."""
        share_out(self.listeners)
        self.phase = Phase.DONE
        books = self.books
        old = [w for w in books.live_workers() if w.generation != self.generation]
        self._put_in_force()
        before = books.all_listeners()
        books.listeners, books.extras = self.listeners, self.extras
        now = books.all_listeners()
        log_binds(books.log, before, now)
        discard([listener for listener in before if listener not in now], now)
        for listener in books.listeners:
            apply(listener, books.cfg.backlog)
        for worker in old:
            self._crew.retire(worker)
        self._follow()
        books.hooks.attempt(books.log, books.cfg, "on_reload")

    def _put_in_force(self) -> None:
        """The new generation's number, directory and configuration."""
        books = self.books
        forget_environment(books.cfg)
        books.generation = self.generation
        books.scoreboard.set_figure(Figure.GENERATION, self.generation)
        assert self.configuration is not None
        books.app.use(self.configuration)
        if self.release:
            books.releases.pop()  # two rollbacks in a row go back by two
        books.note_release(self.configuration.directory)
        self._configure()
