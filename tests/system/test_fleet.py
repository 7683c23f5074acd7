"""Two daemons on one store: jobs and services run in one worker of both; one that was stopped."""

import asyncio
import os
import signal

import pytest

from apihour.shared.open_shared import open_shared
from tests.databases import redis_server

__all__ = ["redis_server"]


class Seen:
    """What was written, as (pid, token), in the order in which the store had it."""

    def __init__(self, url, path):
        self._url, self._path = url, path

    def __call__(self, what):
        async def read():
            shared = open_shared({"url": self._url, "deadline": 10}, self._path)
            entry = await shared.get(f"seen/{what}")
            await shared.close()
            return entry.value.decode().splitlines() if entry else []

        return [tuple(map(int, line.split())) for line in asyncio.run(read())]


def late(lines):
    """The lines whose token is below one that was seen before: a resource refuses them."""
    greatest, found = 0, []
    for pid, token in lines:
        if token < greatest:
            found.append(pid)
        greatest = max(greatest, token)
    return found


@pytest.fixture(scope="module")
def fleet(redis_server, apihour_module_daemon, system_apps, tmp_path_factory):
    url = f"unix://:hidden-word@{redis_server.socket}"
    daemons = [apihour_module_daemon("fleet:Container", cwd=system_apps, workers=1,
                                     env={"FLEET_STORE": url}) for _ in range(2)]
    return daemons, Seen(url, tmp_path_factory.mktemp("seen"))


def test_a_holder_that_was_stopped_does_no_harm(fleet):
    daemons, seen = fleet
    first = daemons[0]
    first.wait(lambda: len(seen("lead")) > 3 and len(seen("work")) > 3, "both at work")
    assert len({pid for pid, _ in seen("lead")}) == 1
    holder = seen("lead")[-1][0]
    os.kill(holder, signal.SIGSTOP)
    first.wait(lambda: len({pid for pid, _ in seen("lead")[-5:]} - {holder}) == 1
               and seen("lead")[-5][0] != holder, "the other daemon's service")
    first.wait(lambda: seen("work")[-1][0] != holder, "the other daemon's job")
    os.kill(holder, signal.SIGCONT)
    count = len(seen("lead"))
    first.wait(lambda: len(seen("lead")) > count + 20, "a second more")
    lines = {what: seen(what) for what in ("lead", "work")}
    for what, found in lines.items():
        assert set(late(found)) <= {holder}, what
        assert len(late(found)) <= 1, f"{what}: what was on its way when it was stopped"
        owners = {token: pid for pid, token in found}
        assert len({(pid, token) for pid, token in found}) == len(owners), "a token is one run's"
    [stopped] = [one for one in daemons if holder in {w.pid for w in one.workers()}]
    stopped.wait(lambda: any("lease is gone" in line for line in stopped.lines), "its words")


def test_the_store_goes_away_and_comes_back(fleet, redis_server):
    daemons, seen = fleet
    first = daemons[0]
    first.wait(lambda: len(seen("lead")) > 3, "the service")
    redis_server.halt(signal.SIGKILL)
    for daemon in daemons:
        daemon.wait(lambda daemon=daemon: any(
            "no lease for 'lead'" in line or "its lease is gone" in line
            for line in daemon.lines), "what the worker says")
    redis_server.start()
    first.wait(lambda: len(seen("lead")) > 10 and len(seen("work")) > 3, "both at work again")
    assert late(seen("lead")) == []
    assert len({pid for pid, _ in seen("lead")[-3:]}) == 1
