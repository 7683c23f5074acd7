"""The pool in memory: a driver that is told what to do, a budget whose other members are told."""

import asyncio

import pytest

from apihour.engines import pool as module
from apihour.engines.budget import Alone
from apihour.engines.driver import Purpose
from apihour.engines.pool import Pool
from apihour.engines.pool_options import PoolOptions
from apihour.engines.undoing import undo
from apihour.engines.use import Use
from apihour.errors import EngineBusyError, EngineDownError
from apihour.shared.leases import Wish
from tests.apihour.engines.support import until


class Fake:
    """A driver; its connections are numbers."""

    survives_cancel = True
    ping_after = 1e9

    def __init__(self):
        self.made, self.closed, self.said = 0, [], []
        self.fails = None
        self.is_gone = set()
        self.hangs = False
        self.blocks = asyncio.Event()
        self.blocks.set()

    async def connect(self):
        if self.hangs:
            await asyncio.sleep(60)
        await self.blocks.wait()
        if self.fails:
            raise self.fails
        self.made += 1
        return self.made

    async def disconnect(self, connection):
        self.closed.append(connection)

    def drop(self, connection):
        self.said.append(f"drop {connection}")

    def is_open(self, connection):
        return connection not in self.is_gone

    async def ping(self, connection):
        if self.hangs:
            await asyncio.sleep(60)
        if self.fails:
            raise self.fails

    async def begin(self, connection, wanted):
        self.said.append("begin")
        return True

    async def commit(self, connection, begun):
        await self.blocks.wait()
        if self.fails:
            raise self.fails
        self.said.append("commit")

    async def rollback(self, connection, begun):
        self.said.append("rollback")

    async def reset(self, connection):
        self.said.append("reset")


class Others(Alone):
    """A budget with other members."""

    def __init__(self, limit):
        super().__init__(limit)
        self.others_wish = Wish.NOTHING
        self.own_share = limit
        self.wishes = []
        self.looks = 0

    def wish(self, wish):
        self.wishes.append(wish)

    def is_wished(self, wish):
        self.looks += 1
        return wish == self.others_wish

    def share(self):
        return self.own_share


@pytest.fixture
async def fake():
    return Fake()


@pytest.fixture
async def make(fake):
    made = []

    def pool(limit=2, **options):
        told = []
        found = Pool("engine 'x'", fake, Others(limit), PoolOptions(max=limit, **options),
                     str, told.append)
        found.told = told
        made.append(found)
        return found

    yield pool
    fake.blocks.set()
    for one in made:
        await one.close()


async def test_what_is_free_is_used_again_the_last_first(make, fake):
    pool = make()
    first, second = await pool.take(), await pool.take()
    pool.release(first)
    pool.release(second)
    assert (await pool.take()).connection == 2 and fake.made == 2 and pool.busy == 1


async def test_failures_are_told_once_and_their_leases_come_back(make, fake, monkeypatch):
    monkeypatch.setattr("apihour.engines.backoff._FIRST", 0.01)
    monkeypatch.setattr("apihour.engines.backoff._LAST", 0.02)  # sooner than who waits gives up
    pool = make(limit=1, wait=0.2)
    fake.fails = OSError("refused")
    with pytest.raises(EngineDownError, match=r"engine 'x': refused; tried for 0\.2 s"):
        await pool.take()
    assert pool.told == ["refused"] and pool.errors > 2 and pool.size == 0
    fake.fails = None
    slot = await pool.take()
    assert pool.told == ["refused", ""] and not pool.down
    pool.release(slot)


async def test_one_that_takes_too_long_is_given_up(make, fake):
    pool = make(connect_timeout=0.05, wait=0.15)
    fake.blocks.clear()
    with pytest.raises(EngineDownError, match=r"no connection within 0\.05 s"):
        await pool.take()
    await until(lambda: pool.size == 0)


async def test_who_is_cancelled_with_a_connection_in_his_hand_gives_it_on(make):
    pool = make(limit=1)
    slot = await pool.take()
    waiting = asyncio.create_task(pool.take())
    await until(lambda: pool.waiting == 1)
    pool.release(slot)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled() and len(pool.idle) == 1 and pool.busy == 0


async def test_what_is_beyond_its_share_is_given_to_who_has_less(make, fake):
    pool = make(limit=4)
    slots = [await pool.take() for _ in range(4)]
    pool.budget.own_share, pool.budget.others_wish = 2, Wish.SHARE
    for slot in slots[:3]:
        pool.release(slot)
    await until(lambda: pool.size == 2)  # two are closed, the third is kept
    assert fake.closed == [1, 2] and len(pool.idle) == 1
    pool.budget.own_share = 1
    pool.spare()
    await until(lambda: pool.size == 1)
    pool.release(slots[3])
    assert len(pool.idle) == 1


async def test_what_others_want_is_looked_for_now_and_then(make, monkeypatch):
    """To look is a system call, which each request would pay."""
    monkeypatch.setattr(module, "_LOOK", 60.0)
    pool = make(limit=2)
    for _ in range(100):
        pool.release(await pool.take())
    assert pool.budget.looks == 1
    monkeypatch.setattr(module, "_LOOK", 0.0)
    slots = [await pool.take(), await pool.take()]
    pool._asks_at = 0.0
    pool.budget.own_share, pool.budget.others_wish = 1, Wish.SHARE
    for slot in slots:
        pool.release(slot)
    await until(lambda: pool.size == 1)


async def test_what_lies_unused_is_given_to_who_wants_more(make, fake, monkeypatch):
    pool = make()
    pool.release(await pool.take())
    pool.budget.others_wish = Wish.MORE
    pool.spare()
    assert len(pool.idle) == 1  # it was used a moment ago
    monkeypatch.setattr(module, "_SPARE", 0.0)
    pool.spare()
    await until(lambda: fake.closed == [1] and pool.size == 0)


async def test_who_has_less_than_his_share_says_so(make):
    pool = make(limit=1, wait=0.1)
    pool.budget.take()  # another has the only one
    with pytest.raises(EngineBusyError):
        await pool.take()
    await until(lambda: pool.budget.wishes[-1] is Wish.NOTHING)
    assert Wish.SHARE in pool.budget.wishes


async def test_a_cut_connection_is_not_given_out(make, fake):
    pool = make()
    pool.release(await pool.take())
    fake.is_gone.add(1)
    assert (await pool.take()).connection == 2
    pool = make()
    slot = await pool.take()
    fake.is_gone.add(slot.connection)
    pool.release(slot)
    assert not pool.idle


async def test_a_server_that_hangs_costs_one_wait_not_one_for_each_connection(make, fake):
    pool = make(limit=4, wait=0.4, connect_timeout=0.4)
    slots = [await pool.take() for _ in range(4)]
    for slot in slots:
        pool.release(slot)
    fake.ping_after, fake.hangs = 0.0, True
    began = asyncio.get_running_loop().time()
    with pytest.raises(EngineDownError, match=r"the server does not answer; tried for 0\.4 s"):
        await pool.take()
    assert asyncio.get_running_loop().time() - began < 1.5  # for all four it would be 2
    assert pool.told == ["the server does not answer"]
    await until(lambda: sorted(fake.closed) == [1, 2, 3, 4])


async def test_a_check_finds_out_and_closes_what_is_dead(make, fake):
    pool = make()
    slots = [await pool.take(), await pool.take()]
    for slot in slots:
        pool.release(slot)
    fake.fails = OSError("gone")
    await pool.check()
    await until(lambda: pool.down == "gone" and sorted(fake.closed) == [1, 2])
    fake.fails = None
    await until(lambda: pool._loop.time() >= pool._retry_at)
    await pool.check()
    await until(lambda: not pool.down and len(pool.idle) == 1)


async def test_closing_ends_what_is_being_made(make, fake):
    pool = make()
    fake.blocks.clear()
    waiting = asyncio.create_task(pool.take(60))
    await until(lambda: pool.size == 1)
    await asyncio.wait_for(pool.close(), 10)
    assert pool.size == 0
    waiting.cancel()


class Seen:
    """Who watches a use."""

    def __init__(self, ended):
        self.ended = ended
        self.given_up = []

    def see_end(self, error):
        self.ended.append(error)

    def see_given_up(self, error):
        self.given_up.append(error)


async def test_what_cannot_be_brought_back_is_closed_and_told(make, fake):
    pool, seen = make(limit=1), Seen([])

    async def fails(connection):
        raise OSError("gone")

    fake.reset = fails
    async with Use(pool, Purpose(False), seen):
        pass
    with pytest.raises(ZeroDivisionError):
        async with Use(pool, Purpose(False), seen):
            raise ZeroDivisionError
    assert [repr(one) for one in seen.given_up] == ["OSError('gone')"] * 2
    await until(lambda: len(fake.closed) == 2 and pool.size == 0)


async def test_a_commit_that_fails_is_rolled_back_and_raised(make, fake):
    pool, ended = make(limit=1), []
    with pytest.raises(OSError, match="no"):
        async with Use(pool, Purpose(True), Seen(ended)):
            fake.fails = OSError("no")
    assert ended == [fake.fails]
    fake.fails = None
    assert fake.said == ["begin", "rollback", "reset"] and len(pool.idle) == 1


async def test_a_cancelled_commit_is_undone_to_its_end(make, fake):
    pool = make(limit=1)

    async def one():
        async with Use(pool, Purpose(True), Seen([])):
            fake.blocks.clear()

    task = asyncio.create_task(one())
    await until(lambda: fake.said == ["begin"] and not fake.blocks.is_set())
    await asyncio.sleep(0)
    task.cancel()
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    await until(lambda: len(pool.idle) == 1)
    assert fake.said == ["begin", "rollback", "reset"]


async def test_what_does_not_survive_a_cancel_is_closed(make, fake):
    fake.survives_cancel = False
    pool = make(limit=1)
    with pytest.raises(asyncio.CancelledError):
        async with Use(pool, Purpose(True), Seen([])):
            raise asyncio.CancelledError
    await until(lambda: fake.closed == [1] and pool.size == 0)
    assert fake.said == ["begin", "drop 1"]


async def test_what_goes_on_is_cancelled_again_and_again():
    ends, told = asyncio.Event(), []

    async def cancel():
        told.append(1)
        if len(told) == 2:
            ends.set()

    await asyncio.wait_for(undo(ends.wait(), cancel), 10)
    assert len(told) == 2
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await undo(asyncio.Event().wait(), cancel)


async def test_a_server_that_hangs_is_found_out_while_all_connections_are_in_use(make, fake):
    pool = make(1, connect_timeout=0.05)
    slot = await pool.take()
    fake.hangs = True
    await pool.check()
    assert not pool.down, "a query may take its time"
    await asyncio.sleep(0.06)
    await pool.check()
    assert "none of 1 connections in use came back for 0." in pool.down
    assert fake.made == 1 and pool.size == 1 and len(pool.told) == 1
    pool.release(slot)
    assert not pool.down and pool.told[-1] == "", "what comes back was answered"


@pytest.mark.parametrize("refusal", [None, RuntimeError("too many connections")])
async def test_a_server_that_greets_or_refuses_one_more_is_up(make, fake, refusal):
    pool = make(1, connect_timeout=0.05)
    slot = await pool.take()
    fake.fails = refusal
    await asyncio.sleep(0.06)
    await pool.check()
    assert not pool.down and not pool.told
    assert fake.closed == ([] if refusal else [2]), "it is let go at once"
    fake.fails = None
    pool.release(slot)


async def test_within_max_the_further_connection_is_one_of_the_pool(make, fake):
    pool = make(2, connect_timeout=0.05)
    slot = await pool.take()
    await asyncio.sleep(0.06)
    await pool.check()
    await until(lambda: len(pool.idle) == 1)
    assert pool.size == 2 and not fake.closed
    pool.release(slot)
