"""What the arbiter does on request: reload, upgrade, scale, drain, signal.

Rules: roles are checked here again, where the command is carried out; an answer is rows.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apihour.books.books import Books
from apihour.books.children import Children
from apihour.books.worker_record import WorkerRecord
from apihour.errors import ApihourError
from apihour.ops.model import Role
from apihour.orders.requesters import ControlRequest
from apihour.orders.restarts import Restarts
from apihour.reload.changes import Changes

if TYPE_CHECKING:
    from apihour.bind.ban_book import BanBook

__all__ = ["ArbiterCommands"]

_SIGNALS = ("HUP", "TERM", "INT", "QUIT", "USR1", "USR2", "TTIN", "TTOU", "WINCH")
_WORKER_SIGNALS = ("TERM", "QUIT", "KILL", "STOP", "CONT", "USR1", "ABRT")
_ENDING = ("TERM", "QUIT", "KILL", "ABRT")  # those of a worker that end it
_MOST_WORKERS = 128
_LONGEST_BAN = 366 * 86400.0  # seconds: what lasts longer belongs into a firewall
_NAME = 200  # characters of an operator's name that are kept


class ArbiterCommands:
    """The commands by name; each takes a request and answers it, at once or later."""

    def __init__(
        self, books: Books, retirer: Children, changes: Changes, restarts: Restarts,
        order: Callable[[int], None],
    ) -> None:
        """`order` gives the arbiter a signal, as if it had been sent."""
        self.books = books
        self._retirer = retirer
        self._changes = changes
        self._restarts = restarts
        self._order = order
        self._commands: dict[str, tuple[Role, Callable[[ControlRequest], None]]] = {
            "reload": (Role.OPERATOR, self._reload),
            "rollback": (Role.OPERATOR, self._rollback),
            "upgrade": (Role.ADMIN, self._upgrade),
            "scale": (Role.OPERATOR, self._scale),
            "drain": (Role.OPERATOR, self._drain),
            "undrain": (Role.OPERATOR, self._undrain),
            "restart": (Role.OPERATOR, self._restart),
            "signal": (Role.ADMIN, self._signal),
            "ban": (Role.OPERATOR, self._ban),
            "unban": (Role.OPERATOR, self._unban),
            "suspend": (Role.ADMIN, self._steer),
            "resume": (Role.ADMIN, self._steer),
            "limit": (Role.ADMIN, self._steer),
            "records": (Role.OBSERVER, self._records),
        }

    def dispatch(self, request: ControlRequest) -> None:
        """Carry out one request."""
        found = self._commands.get(request.command)
        if found is None:
            request.fail(f"arbiter command {request.command!r}: expected one of "
                         f"{', '.join(sorted(self._commands))}", "unknown")
            return
        role, carry_out = found
        if {str(each): each for each in Role}.get(request.role, 0) < role:
            request.fail(f"{request.command} needs the role {role}; "
                         f"yours is {request.role}", "role")
            return
        if role is not Role.OBSERVER:  # looking is nothing to tell of
            self.books.log.info("Command: %s %s", request.command,
                                  " ".join(f"{k}={v!r}" for k, v in request.arguments.items()))
        carry_out(request)

    def _reload(self, request: ControlRequest) -> None:
        canary = request.arguments.get("canary")
        if canary is not None and not (isinstance(canary, int) and 0 <= canary <= _MOST_WORKERS):
            request.fail(f"reload --canary {canary!r}: expected a number of workers, to "
                         f"{_MOST_WORKERS}", "usage")
            return
        self._changes.request_reload(_waiter(request), canary)

    def _rollback(self, request: ControlRequest) -> None:
        try:
            self._changes.request_rollback(_waiter(request))
        except ApihourError as error:
            request.fail(f"rollback refused: {error}")

    def _upgrade(self, request: ControlRequest) -> None:
        error = self._changes.request_upgrade(_waiter(request))
        if error:
            request.fail(f"upgrade refused: {error}")

    def _scale(self, request: ControlRequest) -> None:
        given = request.arguments.get("workers", request.arguments.get("count"))
        try:
            count = int(str(given))
        except ValueError:
            count = 0
        if not 1 <= count <= _MOST_WORKERS:
            request.fail(f"scale {given!r}: expected a number from 1 to {_MOST_WORKERS}", "usage")
            return
        before = self.books.num_workers
        self.books.scale(count)
        request.answer([{"workers": count, "before": before}])

    def _drain(self, request: ControlRequest) -> None:
        workers = self._workers(request)
        if workers is None:
            return
        accepting = [w for w in self.books.live_workers() if w.ready and not w.suspended]
        left = [worker for worker in accepting if worker not in workers]
        if accepting and not left:
            names = ", ".join(worker.name for worker in workers)
            if not request.arguments.get("yes"):
                request.fail(f"drain {names}: no other worker accepts connections, new ones would "
                             "wait until undrain; expected --yes with it")
                return
            self.books.log.warning("Worker %s is drained: no worker accepts connections now",
                                     names)
        self._tell(request, workers, True)

    def _undrain(self, request: ControlRequest) -> None:
        workers = self._workers(request)
        if workers is not None:
            self._tell(request, workers, False)

    @staticmethod
    def _tell(request: ControlRequest, workers: list[WorkerRecord], suspended: bool) -> None:
        for worker in workers:
            worker.suspended = suspended  # its row says so later: two operators, one turn
            worker.channel.send(command="suspend" if suspended else "resume")
        state = "suspended" if suspended else "serving"
        request.answer([{"worker": worker.name, "state": state} for worker in workers])

    def _restart(self, request: ControlRequest) -> None:
        workers = self._workers(request)
        within = request.arguments.get("within")
        if workers is None:
            return
        if len(workers) > 1:
            request.fail("restart: expected one worker; reload replaces all of them", "usage")
            return
        self._restarts.begin(
            workers[0], float(within) if within is not None else None, request)

    def _signal(self, request: ControlRequest) -> None:
        name = str(request.arguments.get("name", request.arguments.get("signal", "")))
        name = name.upper().removeprefix("SIG")
        target = request.arguments.get("worker")
        allowed = _WORKER_SIGNALS if target else _SIGNALS
        if name not in allowed:
            theirs = "" if target else f"; with a WORKER one of {', '.join(_WORKER_SIGNALS)}"
            request.fail(
                f"signal {name!r}: expected one of {', '.join(allowed)}{theirs}", "usage")
            return
        number = signal.Signals[f"SIG{name}"]
        if not target:
            request.answer([{"process": "arbiter", "signal": name}])
            self._order(number)
            return
        workers = self._workers(request)
        if workers is not None:
            rows = [{"process": worker.name, "signal": name} for worker in workers]
            for worker in workers:
                if number == signal.SIGTERM:
                    self._retirer.retire(worker)
                else:
                    self._retirer.send(worker, number)
            if name in _ENDING:
                self._restarts.tell(workers, rows, request)
            else:
                request.answer(rows)

    def _ban(self, request: ControlRequest) -> None:
        from apihour.bind.ban_book import parse_network  # read where it is asked only

        given = request.arguments
        try:
            seconds = float(given.get("seconds", 0))
            if not 0 < seconds <= _LONGEST_BAN:
                raise ValueError(f"for {seconds:g} s: expected up to {_LONGEST_BAN:.0f}")
            network = parse_network(str(given.get("network")))
            ban = self._book().add(network, seconds, str(given.get("by", ""))[:_NAME])
        except OSError as error:
            self._refuse_unwritten(request, error)
            return
        except (TypeError, ValueError) as error:
            request.fail(f"ban: {error}")
            return
        request.answer([{"network": ban.network, "left": ban.left}])

    def _unban(self, request: ControlRequest) -> None:
        from apihour.bind.ban_book import parse_network  # read where it is asked only

        word = str(request.arguments.get("network"))
        try:
            network = None if word == "all" else parse_network(word)
            gone = self._book().remove(network)
        except OSError as error:
            self._refuse_unwritten(request, error)
            return
        except ValueError as error:
            request.fail(f"unban: {error}")
            return
        request.answer([{"network": ban.network, "left": ban.left} for ban in gone])

    def _steer(self, request: ControlRequest) -> None:
        """What a server takes from now on; in which workers it is, the console knows."""
        from apihour.limits.live import LiveBook  # read where it is asked only

        given, books = request.arguments, self.books
        server, by = given.get("server"), str(given.get("by", ""))
        if not isinstance(server, str) or not server:
            request.fail(f"{request.command}: server {server!r:.60}: expected a name", "usage")
            return
        book = LiveBook(books.runtime.limits, (books.cfg.uid, books.cfg.gid))
        try:
            if request.command != "limit":
                book.suspend(server, request.command == "suspend", by)
            elif "reset" in given:
                book.reset(server, list(given["reset"]), by)
            else:
                book.limit(server, dict(given.get("options") or {}), by)
        except OSError as error:
            self._refuse_unwritten(request, error, books.runtime.limits)
        except (TypeError, ValueError) as error:
            request.fail(f"{request.command} {server}: expected {error}", "usage")
        else:
            request.answer([])

    def _refuse_unwritten(
        self, request: ControlRequest, error: OSError, path: Path | None = None
    ) -> None:
        path = path or self.books.runtime.bans
        request.fail(f"{request.command}: {path}: {error.strerror}; nothing has changed, "
                     f"expected a file system with some kB free (df {path.parent}), or a "
                     "firewall's rule")

    def _book(self) -> BanBook:
        from apihour.bind.ban_book import BanBook

        books = self.books
        return BanBook(books.runtime.bans, (books.cfg.uid, books.cfg.gid))

    def _records(self, request: ControlRequest) -> None:
        """The arbiter's own log after a number; all there is for who knows another arbiter."""
        given, pid = request.arguments, self.books.pid
        try:
            after = int(given.get("after", 0)) if given.get("pid") == pid else 0
            level = int(given.get("level", 0))
        except (TypeError, ValueError) as error:
            request.fail(f"records: {error}", "usage")
            return
        request.answer([
            {"pid": pid, **asdict(one)}
            for one in self.books.ring.latest(after, level, str(given.get("logger") or ""))])

    def _workers(self, request: ControlRequest) -> list[WorkerRecord] | None:
        target = str(request.arguments.get("worker") or "all")
        living = self.books.live_workers()
        found = [w for w in living if target in ("all", w.name, str(w.pid), str(w.slot))]
        if not found:
            request.fail(f"worker {target!r}: expected one of "
                         f"{', '.join(w.name for w in living) or 'none'}", "usage")
            return None
        return found


def _waiter(request: ControlRequest) -> Callable[[dict[str, Any], str], None]:
    def answer(outcome: dict[str, Any], detail: str) -> None:
        if outcome.get("outcome") == "done":
            request.answer([outcome])
        else:
            request.fail(f"{request.command} failed: {outcome.get('error')}", "failed", detail)

    return answer
