"""``?sticky``: a client's address always meets the same worker, by datagrams and connections."""

import asyncio
import contextlib
import itertools
import socket
import sys
import threading
from pathlib import Path

import pytest

from apihour.bind.sticky import slot_of

pytest.importorskip("socketio")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="SO_ATTACH_REUSEPORT_CBPF")

PATIENCE = 30.0
SOURCES = [f"127.0.0.{n}" for n in range(2, 60)]
FIRST, SECOND = (next(one for one in SOURCES if slot_of(one, 2) == slot) for slot in (1, 2))
STAYS, MOVES = (next(one for one in SOURCES if slot_of(one, 2) == 1 and slot_of(one, 3) == slot)
                for slot in (1, 3))


@pytest.fixture(scope="module")
def house(apihour_module_daemon):
    return apihour_module_daemon("sticky:Container", cwd=Path(__file__).parent / "apps", workers=2)


class Sender(threading.Thread):
    """A client that sends and counts until it is told to end; `heard` is who answered what."""

    def __init__(self, house, source, at_once=5):
        super().__init__()
        self.at_once = at_once  # several under way: some wait in the kernel at any time
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.settimeout(PATIENCE)
        self.sock.bind((source, 0))
        self.sock.connect(("127.0.0.1", house.port("udp")))
        self.heard, self.failure, self.ends = [], None, threading.Event()

    def run(self):
        number, at_once = 0, self.at_once
        with contextlib.closing(self.sock):
            while not self.ends.is_set():
                for ahead in range(at_once):
                    self.sock.send(b"%d" % (number + ahead))
                for ahead in range(at_once):
                    try:
                        pid, count, state, said = self.sock.recv(100).split()
                    except TimeoutError as error:
                        self.failure = error
                        return
                    self.heard.append((int(pid), int(count), state, int(said) - number - ahead))
                number += at_once


def reload_under(house, senders):
    """Reload while those send, until the old workers are gone."""
    before = {one.pid for one in house.workers()}
    for one in senders:
        one.start()
    try:
        house.wait(lambda: all(len(one.heard) > 50 for one in senders), "their answers")
        house.reload()
        house.wait(lambda: {one.pid for one in house.workers()}.isdisjoint(before),
                   "the old ones to leave")
        sizes = [len(one.heard) for one in senders]
        house.wait(lambda: all(len(one.heard) > size + 50
                               for one, size in zip(senders, sizes, strict=True)), "more answers")
    finally:
        for one in senders:
            one.ends.set()
        for one in senders:
            one.join()


def test_a_client_stays_with_its_worker_and_a_reload_loses_no_datagram(house):
    slots = {one.slot: one.pid for one in house.workers("serving")}
    senders = [Sender(house, FIRST), Sender(house, SECOND)]
    reload_under(house, senders)
    for slot, one in zip((1, 2), senders, strict=True):
        assert one.failure is None  # none is lost
        pids = [pid for pid, *_ in one.heard]
        new = next(x.pid for x in house.workers("serving") if x.slot == slot)
        changes = [pair for pair in itertools.pairwise(pids) if len({*pair}) > 1]
        assert pids[0] == slots[slot] and changes == [(slots[slot], new)]
        # Each worker has seen all there was of its client, in order.
        at = pids.index(new)
        assert [count for _, count, *_ in one.heard] == [
            *range(1, at + 1), *range(1, len(pids) - at + 1)]
        assert {shift for *_, shift in one.heard} == {0}
        assert any(state == b"draining" for *_, state, _ in one.heard)  # it lived, and had it


async def polls(house, source):
    """Whoever answers a client of Socket.IO that has a connection for each poll."""
    import aiohttp
    import socketio

    connector = aiohttp.TCPConnector(local_addr=(source, 0), force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = socketio.AsyncClient(reconnection=False, http_session=session)
        await client.connect(f"http://{house.address('io')}", transports=["polling"])
        heard = [await client.call("whoami", n, timeout=PATIENCE) for n in range(5)]
        await client.eio.disconnect(abort=True)  # else it waits for a poll to time out
    assert [said for _, said in heard] == [*range(5)]
    return {pid for pid, _ in heard}


def test_polls_of_a_session_meet_its_worker(house):
    slots = {one.slot: one.pid for one in house.workers("serving")}
    assert asyncio.run(polls(house, FIRST)) == {slots[1]}
    assert asyncio.run(polls(house, SECOND)) == {slots[2]}


def test_a_client_goes_straight_to_the_worker_that_it_has_among_more(house):
    old = {one.slot: one.pid for one in house.workers("serving")}
    house.scale(3)
    senders = [Sender(house, source, at_once=1) for source in (STAYS, MOVES, SECOND)]
    reload_under(house, senders)
    new = {one.slot: one.pid for one in house.workers("serving")}
    for sender, before, after in zip(senders, (1, 1, 2), (1, 3, 2), strict=True):
        assert sender.failure is None
        met = [pid for pid, _ in itertools.groupby(pid for pid, *_ in sender.heard)]
        assert met == [old[before], new[after]]
