"""One room for all doors: what is said in it has a number, and nobody misses one.

A line is in the store before anybody sees it, and goes to the other workers by the bus. That
delivers at most once; a worker that finds a number missing reads it in the store, and who comes
back is shown the last ``KEPT``.
"""

import asyncio
import contextlib
import json
import random
import re
import unicodedata
from collections import deque

import apihour
from apihour.bus import Gap
from apihour.presence import PresenceError

KEY, SUBJECT = "chat/lobby", "chat.lobby"
KEPT = 100  # lines
LONGEST = 400  # characters of a line
NAME = 20  # characters
LONGEST_SHOWN = NAME + LONGEST + 10  # with who says it
NAMED = 50  # of those who are here, to who asks
COMING = 100  # visitors whose names are looked for at a time, of a worker
WAITING = 200  # lines, for one who reads slowly; what is more he misses


def clean(text, longest=LONGEST):
    """What may be shown in anybody's terminal: one line, without control characters."""
    return "".join(char if char.isprintable() else " " for char in text[:longest]).strip()


def name_of(wish):
    """A name that no other looks like, nor the room's own words: ASCII letters and digits."""
    plain = unicodedata.normalize("NFKD", wish[:1000]).encode("ascii", "ignore").decode()
    return re.sub("[^A-Za-z0-9_-]+", "_", plain).strip("_-")[:NAME] or "guest"


class Seat:
    """Lines on their way to one connection."""

    def __init__(self, lines):
        self.lines = deque(lines)
        self.missed = 0
        self.there = asyncio.Event()

    def give(self, line):
        if len(self.lines) < WAITING:
            self.lines.append(line)
        else:
            self.missed += 1
        self.there.set()

    async def __aiter__(self):
        while True:
            while self.lines:
                yield self.lines.popleft()
            if self.missed:
                missed, self.missed = self.missed, 0
                yield f"* you read too slowly, and missed {missed} lines"
            self.there.clear()
            if not self.lines:
                await self.there.wait()


class Room:
    """The room, as one worker has it."""

    def __init__(self, container):
        self.shared, self.bus = container.shared, container.bus
        self.presence = container.presence
        self.rate = container.limits("chat", rate=10, burst=50)
        self.seats = set()
        self.coming = 0
        self.claiming = asyncio.Semaphore(4)  # so many at a time: lines are said meanwhile
        self.recent = deque(maxlen=KEPT)
        self.number = 0  # of the last line that was shown here
        self.saying = asyncio.Lock()

    # -- who is here

    async def claim(self, wish, door):
        """An entry for a name that nobody else has: as was wished, else with a number."""
        if self.coming >= COMING:
            raise PresenceError(f"chat: {COMING} visitors come at this moment; expected fewer")
        self.coming += 1
        try:
            return await self.find_name(name_of(wish), door)
        finally:
            self.coming -= 1

    async def find_name(self, wish, door):
        names = [wish, *(f"{wish}{number}" for number in range(2, 100))]
        async with self.claiming:
            taken = {one.who.casefold() for one in await self.presence.list(SUBJECT)}
        for attempt in range(5):
            name = next((one for one in names if one.casefold() not in taken), wish)
            async with self.claiming:
                entry = await self.presence.join(SUBJECT, name, door=door)
                try:
                    taken = {one.who.casefold() for one in await self.presence.list(SUBJECT)
                             if one.id != entry.id}
                except BaseException:  # the store is away, or the visitor
                    await self.presence.leave(entry)
                    raise
                if name.casefold() not in taken:
                    return entry
                await self.presence.leave(entry)
            if attempt:  # of several at once each tries another
                names = [f"{wish}{random.randrange(100, 1_000_000)}" for _ in range(5)]
        raise PresenceError(f"chat: name {wish!r}: too many have it; expected another")

    @contextlib.contextmanager
    def seat(self):
        """Lines from now on, after those that were said last."""
        seat = Seat(self.recent)
        self.seats.add(seat)
        try:
            yield seat
        finally:
            self.seats.discard(seat)

    async def who(self):
        there = await self.presence.list(SUBJECT)
        more = f" and {len(there) - NAMED} others" if len(there) > NAMED else ""
        return "* here: " + ", ".join(f"{one.who} ({one.about.get('door')}, {one.host})"
                                      for one in there[:NAMED]) + more

    # -- what is said

    async def say(self, who, text):
        """Return when it is said; what is to be told to him who said it, if it is not."""
        if not (text := clean(text)):
            return ""
        try:
            if not await self.rate.take(who):
                return "* not said: slower, please"
            if text == "/who":
                return await self.who()
            async with self.saying:
                number, line = await self.keep(f"{who}: {text}")
        except apihour.ApihourError as error:
            return f"* not said: {error}"
        with contextlib.suppress(apihour.BusDownError):  # all look what they missed afterwards
            await self.bus.publish(SUBJECT, json.dumps([number, line]).encode())
        return ""

    async def keep(self, line):
        def add(value):
            nonlocal number
            number, lines = read(value)
            number += 1
            return json.dumps([number, [*lines, line][-KEPT:]]).encode()

        number = 0
        await self.shared.update(KEY, add)
        return number, line

    # -- what is shown

    async def run(self):
        """Show what is said and who comes and goes, for as long as the worker lives."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.follow())
            group.create_task(self.announce())

    async def follow(self):
        async with self.bus.subscribe(SUBJECT, gaps=True) as news:
            await self.catch_up()
            async for event in news:
                number, line = (0, "") if isinstance(event, Gap) else news_of(event.data)
                if number == self.number + 1:
                    self.number = number
                    self.show(line, self.recent)
                elif number or isinstance(event, Gap):
                    await self.catch_up()

    async def catch_up(self):
        """Show what the store has, and was not shown yet."""
        while True:
            try:
                entry = await self.shared.get(KEY)
            except apihour.SharedDownError:
                await asyncio.sleep(0.5)
            else:
                break
        number, lines = read(entry.value if entry else None)
        if number < self.number:
            self.number = 0  # the store has lost them, and began again
        new, self.number = number - self.number, number
        if new > len(lines):
            self.show(f"* {new - len(lines)} lines are missing here")
        for line in lines[max(0, len(lines) - new):]:
            self.show(line, self.recent)

    async def announce(self):
        async for change in self.presence.watch(SUBJECT):
            what = "is here" if change.joined else "has left"
            self.show(f"* {change.entry.who} {what} ({change.entry.about.get('door')})")

    def show(self, line, kept=None):
        if kept is not None:
            kept.append(line)
        for seat in self.seats:
            seat.give(line)


def read(value):
    """The number of the last line, and the lines; what others have written over them is nothing."""
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        number, lines = json.loads(value or b"[0, []]")
        if type(number) is int and 0 <= number < 2**53 and isinstance(lines, list):
            return number, [clean(line, LONGEST_SHOWN)
                            for line in lines[-KEPT:] if isinstance(line, str)]
    return 0, []


def news_of(data):
    """A line and its number; anybody on the bus may have sent it, so what is none is nothing."""
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        number, line = json.loads(data)
        if isinstance(number, int) and isinstance(line, str):
            return number, clean(line, LONGEST_SHOWN)
    return 0, ""
