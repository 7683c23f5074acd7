"""A reload as a state machine, turned by hand against an arbiter that forks nothing."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from apihour.books.probe import ProbeReport
from apihour.errors import BindError, ConfigurationError, HookError
from apihour.reload import reload as module
from apihour.reload.reload import Phase, Reload
from tests.apihour.fake_crew import Clock, FakeCrew, make_cfg
from tests.apihour.reload.fake_beside import Beside, FakeApp, FakeListener


class House:
    """An arbiter whose generation 1 serves, and a reload of it."""

    def __init__(self, workers: int = 2, **options: Any) -> None:
        self.clock = Clock()
        self.crew = FakeCrew(self.clock, workers)
        self.crew.books.app = FakeApp()
        self.crew.books.listeners = [FakeListener("http")]  # type: ignore[list-item]
        self.beside = self.crew.books.app.beside = Beside(make_cfg(workers=workers, **options))
        for slot in range(1, workers + 1):
            self.crew.spawn(slot, 1, self.crew.books.listeners, self.crew.books.cfg)
        self.crew.ready()

    def begin(self, **binds: list[str]) -> Reload:
        self.reload = Reload(
            self.crew.books, self.beside, self.crew, self.beside.configure,
            self.beside.follow)
        self.reload.start()
        self.reload.advance()
        self.binds = {"http": [":1"], **binds}
        return self.reload

    def imported(self, report: ProbeReport | None = None) -> None:
        self.beside.probe.report = report or ProbeReport(binds=self.binds)
        self.reload.advance()

    def ready(self, *slots: int) -> None:
        """The new workers of these slots (default: all) come up."""
        self.crew.ready(lambda w: w.generation == 2 and (not slots or w.slot in slots))
        self.reload.advance()

    def lose(self, slot: int, failure: tuple[str, str] | None = None) -> None:
        (worker,) = [w for w in self.reload.workers if w.slot == slot]
        self.crew.remove(worker)
        worker.failure = failure
        self.reload.on_worker_lost(worker, *(failure or ("it ended", "")))  # type: ignore[arg-type]

    def old(self) -> list[int]:
        return [w.slot for w in self.crew.workers if w.generation == 1]

    def new(self) -> list[int]:
        return [w.slot for w in self.crew.workers if w.generation == 2]

    def unharmed(self) -> bool:
        """Whether the old generation stands as if nothing had happened."""
        (http,) = self.crew.books.listeners
        books = self.crew.books
        did = (self.old(), self.new(), http.did, self.beside.followed)
        return did == ([1, 2], [], [], []) and books.generation == 1


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(**options: Any) -> House:
        made = House(**options)
        monkeypatch.setattr(module, "time", made.clock)
        monkeypatch.setattr(module, "open_binds", made.beside.open_binds)
        monkeypatch.setattr(module, "open_extras", made.beside.open_extras)
        return made

    return make


def test_probe_start_prove_and_only_then_commit(house: Any) -> None:
    h = house()
    reload = h.begin()
    assert (reload.phase, h.new()) == (Phase.PROBING, [])
    h.imported()
    assert (reload.phase, h.old(), h.new()) == (Phase.STARTING, [1, 2], [1, 2])
    assert h.beside.probe.closed
    h.ready(1)
    assert (h.beside.followed, h.old()) == ([], [1, 2])
    h.clock.now += 1.5
    h.ready(2)
    assert h.beside.followed == ["configured", "followed"]
    assert reload.is_over
    assert reload.outcome() == {
        "outcome": "done", "generation": 2, "seconds": 1.5, "workers": 2, "error": ""}


def test_new_workers_get_the_new_configuration_and_listeners(house: Any) -> None:
    h = house()
    h.begin(echo=[":2"])
    h.imported()
    for worker in h.reload.workers:
        assert worker.cfg is h.beside.fresh_cfg
        assert [listener.name for listener in worker.sockets] == ["http", "echo"]
    assert [listener.name for listener in h.crew.books.listeners] == ["http"]


def test_the_operators_number_of_workers_counts(house: Any) -> None:
    h = house()
    h.crew.books.operator_workers = 3
    h.begin()
    h.imported()
    assert h.new() == [1, 2, 3]


def test_a_failed_import_leaves_everything(house: Any) -> None:
    h = house()
    h.begin()
    h.imported(ProbeReport(error="hello.py:3: SyntaxError", detail="Traceback"))
    assert (h.reload.phase, h.reload.error, h.reload.detail) == (
        Phase.FAILED, "hello.py:3: SyntaxError", "Traceback")
    assert h.unharmed()


def test_an_import_that_hangs_is_ended(house: Any) -> None:
    h = house()
    h.begin()
    h.clock.now += 10.1
    h.reload.advance()
    assert h.reload.error == "the application did not import within 10 s"
    assert h.beside.probe.killed and h.beside.probe.closed
    assert h.reload.probe is None
    assert h.unharmed()


def test_a_bad_configuration_leaves_everything(house: Any) -> None:
    h = house()
    h.beside.fresh_cfg = ConfigurationError("setting timeout: 'x'")
    h.begin()
    h.imported()
    assert h.reload.error == "setting timeout: 'x'"
    assert h.unharmed()


def test_an_address_that_cannot_be_had_closes_what_was_opened_beside(house: Any) -> None:
    h = house()
    h.begin(echo=[":2"])
    h.beside.extras_error = BindError("bind @health=:9: address in use")
    h.imported()
    assert h.reload.error == "bind @health=:9: address in use"
    assert h.reload.listeners[1].did == ["close", "unlink"]
    assert h.unharmed()


def test_a_new_worker_that_cannot_start_takes_the_new_away(house: Any) -> None:
    h = house()
    h.begin(echo=[":2"])
    h.imported()
    h.ready(1)
    opened = h.reload.listeners[1]
    h.lose(2, ("start() failed: hello.py:9", "Traceback"))
    assert (h.reload.phase, h.reload.error) == (Phase.FAILED, "start() failed: hello.py:9")
    assert opened.did == ["close", "unlink"]
    assert h.crew.retired == ["1.2"]
    assert h.unharmed()


def test_no_process_for_a_new_worker_fails_the_reload(house: Any) -> None:
    h = house()
    h.crew.spawn_error = OSError(errno.EAGAIN, "no more processes")
    h.begin()
    h.imported()
    assert h.reload.error == "no new worker: no more processes"
    assert h.unharmed()


def test_once_over_it_stays_over(house: Any) -> None:
    h = house()
    h.begin()
    h.imported()
    h.ready()
    h.reload.fail("too late")
    h.reload.advance()
    assert (h.reload.phase, h.reload.error) == (Phase.DONE, "")
    assert h.new() == [1, 2]


def test_told_to_stop_while_probing(house: Any) -> None:
    h = house()
    h.begin()
    h.reload.fail("the daemon stops")
    assert h.beside.probe.killed
    assert h.unharmed()


def test_surge_goes_one_by_one(house: Any) -> None:
    h = house(workers=3, surge=1)
    h.begin()
    h.imported()
    most = len(h.crew.workers)
    seen = [(h.old(), h.new())]
    while not h.reload.is_over:
        h.ready()
        h.reload.advance()
        most = max(most, len(h.crew.workers))
        seen.append((h.old(), h.new()))
        assert len(seen) < 20
    assert most == 4
    assert seen[0] == ([1, 2, 3], [1])
    # However far it is, as many as wanted serve.
    assert all(len(old) + len(new) >= 3 for old, new in seen)
    assert h.crew.retired == ["1.1", "2.1", "3.1"]
    assert h.new() == [1, 2, 3]


def test_surge_replaces_a_new_worker_that_dies_after_the_first_served(house: Any) -> None:
    h = house(workers=3, surge=1)
    h.begin()
    h.imported()
    h.ready()
    h.lose(1)
    assert not h.reload.is_over
    h.reload.advance()
    assert 1 in h.new()


def test_surge_fails_when_the_first_dies(house: Any) -> None:
    h = house(workers=3, surge=1)
    h.begin()
    h.imported()
    h.lose(1)
    assert h.reload.phase is Phase.FAILED
    assert h.old() == [1, 2, 3]


def test_canaries_are_watched_before_the_rest(house: Any) -> None:
    h = house(workers=3, canary=1, canary_time=5.0)
    h.begin()
    h.imported()
    assert h.new() == [1]
    h.ready()
    assert (h.reload.phase, h.new()) == (Phase.WATCHING, [1])
    h.clock.now += 4.9
    h.reload.advance()
    assert h.reload.phase is Phase.WATCHING
    h.clock.now += 0.2
    h.reload.advance()
    h.reload.advance()
    assert (h.reload.phase, h.new(), h.old()) == (Phase.STARTING, [1, 2, 3], [1, 2, 3])
    h.ready()
    assert h.reload.phase is Phase.DONE


@pytest.mark.parametrize(("requests", "errors", "failed"), [
    (19, 19, False),  # too few to judge
    (100, 5, False),  # exactly the share that is allowed
    (100, 6, True),
])
def test_a_canary_that_answers_5xx_fails_the_reload(
    house: Any, requests: int, errors: int, failed: bool
) -> None:
    h = house(canary=1)
    h.begin()
    h.imported()
    h.ready()
    (canary,) = h.reload.workers
    canary.row.requests, canary.row.errors = requests, errors
    h.reload.advance()
    assert (h.reload.phase is Phase.FAILED) is failed
    if failed:
        assert h.reload.error == "canary: 6 of 100 responses were 5xx; expected at most 5%"
        assert h.unharmed()


def test_few_answers_are_judged_when_no_more_can_come(house: Any) -> None:
    h = house(canary=1, canary_time=5.0)
    h.begin()
    h.imported()
    h.ready()
    (canary,) = h.reload.workers
    canary.row.requests, canary.row.errors = 4, 2
    h.clock.now += 5.0
    h.reload.advance()
    assert h.reload.error == "canary: 2 of 4 responses were 5xx; expected at most 5%"
    assert h.unharmed()


def test_a_late_failure_keeps_what_has_replaced_old_ones(house: Any) -> None:
    h = house(workers=3, surge=1)
    h.begin()
    h.imported()
    h.ready()
    h.reload.advance()
    assert h.reload.has_replaced
    serving = len([w for w in h.crew.workers if w.ready])
    h.reload.fail("the rest cannot start")
    left = h.crew.workers
    assert len([w for w in left if w.ready]) == serving >= 3
    assert {w.generation for w in left} == {w.row.generation for w in left} == {1}
    assert sorted(w.slot for w in left) == [1, 2, 3]
    assert sorted(w.name for w in left) == ["1.1", "2.1", "3.1"]


def test_after_a_late_failure_none_serves_on_other_sockets_than_the_daemons(house: Any) -> None:
    h = house(workers=3, surge=1)
    h.begin(echo=[":2"])
    h.imported()
    h.ready()
    h.reload.advance()
    assert h.reload.has_replaced
    h.reload.fail("the rest cannot start")
    assert h.reload.listeners[1].did == ["close", "unlink"]
    # Those are replaced by the keeper, with the sockets that there are.
    assert {socket for w in h.crew.workers for socket in w.sockets} == {*h.crew.books.listeners}
    assert h.new() == []


def test_the_arbiter_is_of_the_old_kind_until_the_commit(house: Any) -> None:
    h = house()
    h.begin()
    h.imported()
    assert h.crew.books.app.word == "old"
    assert h.reload.configuration.word == "new"
    h.ready()
    h.reload.advance()
    assert h.reload.phase is Phase.DONE
    assert h.crew.books.app.word == "new"


def test_a_hook_that_fails_refuses_the_reload(house: Any) -> None:
    h = house()
    h.crew.spawn_error = HookError("hook pre_fork failed: c.py:1: boom")
    h.begin()
    h.imported()
    assert h.reload.error == "hook pre_fork failed: c.py:1: boom"
    assert h.unharmed()


def test_a_canary_that_dies_fails_the_reload(house: Any) -> None:
    h = house(canary=1)
    h.begin()
    h.imported()
    h.ready()
    h.lose(1)
    assert h.reload.phase is Phase.FAILED
    assert h.unharmed()


def test_listeners_it_did_not_open_are_never_closed(house: Any) -> None:
    h = house()
    health = FakeListener("health")
    h.crew.books.extras = {"health": health}
    h.begin()
    h.imported()
    assert h.reload.extras == {"health": health}
    h.reload.fail("no")
    assert (health.did, h.old()) == ([], [1, 2])
