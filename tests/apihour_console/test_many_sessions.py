"""Many interactive sessions in one process: each key and each byte stays with its operator."""

from __future__ import annotations

import asyncio
import gc
import re
import signal
import weakref
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from apihour.ops.model import Role
from apihour_console.calls.call import Call, Identity, Result
from apihour_console.shell.audit import AuditLog
from tests.apihour_console.memory import LOGGER, Operator
from tests.apihour_console.support import PythonFleet, wait_until

Open = Callable[..., Operator]
ROLES = (Role.OBSERVER, Role.OPERATOR, Role.ADMIN)


class WaitingFleet(PythonFleet):
    """Knows who waits, and under which names Python was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.waiters: set[str] = set()
        self.names: list[str] = []

    async def execute(self, call: Call, identity: Identity) -> Result:
        if call.command.name == "wait" or call.arguments.get("source") == "wait":
            self.waiters.add(identity.name)
        if call.command.name == "python":
            self.names.append(call.arguments["session"])
        return await super().execute(call, identity)


@pytest.fixture
async def open_session(tmp_path: Path) -> AsyncIterator[Open]:
    """Opens sessions of one console, numbered from 1."""
    fleet, audit = WaitingFleet(), AuditLog(tmp_path / "audit.jsonl", LOGGER)
    found: list[Operator] = []

    def make(role: Role = Role.ADMIN, **more: object) -> Operator:
        operator = Operator(fleet, audit, len(found) + 1, role, directory=tmp_path, **more)  # type: ignore[arg-type]
        found.append(operator)
        return operator

    yield make
    for one in found:
        await one.close()


async def test_the_keys_of_one_never_reach_the_other(open_session: Open) -> None:
    observer = open_session(Role.OBSERVER)
    await observer.expect("apihour>")
    admin = open_session(Role.ADMIN)
    await admin.expect("apihour>")
    await observer.type("reload")
    await observer.expect("reload")
    await admin.type("\r")
    await admin.expect("apihour>")
    assert "reload" not in admin.raw and admin.commands() == []
    await observer.type("\r")
    await observer.expect("needs role operator")
    assert observer.commands() == ["reload"]


class Day:
    """What one operator does, and what must be audited of it; `word` is like no other's."""

    def __init__(self, operator: Operator, role: Role) -> None:
        self.operator = operator
        self.role = role
        self.word = f"nr{operator.number}x"
        self.audited: list[str] = []

    async def run(self) -> None:
        await self.operator.expect("apihour>")
        steps = [self.types, self.completes, self.tops, self.pastes, self.interrupts,
                 self.searches, self.pages, self.watches]
        if self.role is Role.ADMIN:
            steps.append(self.pythons)
        first = self.operator.number % len(steps)
        for step in steps[first:] + steps[:first]:  # each is elsewhere at the same moment
            await step()
        await self.line("exit", "", prompt="")
        assert await self.operator.ended() == 0

    async def line(self, text: str, pattern: str, prompt: str = "apihour>") -> None:
        await self.operator.type(text + "\r")
        self.audited.append(text)
        if pattern or prompt:
            await self.operator.expect(f"{pattern}.*{prompt}")

    async def types(self) -> None:
        await self.line(self.word, f"'{self.word}': no such command")
        await self.line("reload", "WORKER" if self.role > Role.OBSERVER else "needs role operator")

    async def completes(self) -> None:
        await self.operator.type("vers\t")
        await self.operator.expect("version")
        await self.operator.type(self.word + "\r")
        await self.operator.expect("version.*apihour>")
        self.audited.append(f"version {self.word}")
        await self.operator.type("stack \t")
        await self.operator.expect(r"2\.1")
        await self.operator.type("\x03")
        await self.operator.expect("apihour>")

    async def tops(self) -> None:
        await self.operator.type("top\r")
        self.audited.append("top")
        await self.operator.expect("q quit")
        await self.operator.type("\t")
        await self.operator.expect(r".")
        await self.operator.type("q")
        await self.operator.expect("apihour>")

    async def pastes(self) -> None:
        self.operator.send(f"\x1b[200~{self.word} pasted\nversion\n\x1b[201~")
        await self.operator.type("\r")
        await self.operator.expect("no such command.*apihour 1.0.*apihour>")
        self.audited += [f"{self.word} pasted", "version"]

    async def interrupts(self) -> None:
        await self.operator.type(f"half {self.word}\x03")
        await self.operator.expect("apihour>")
        await self.operator.type("wait\r")
        await self.waits()
        await self.operator.type("\x03")
        await self.operator.expect(r"\^C.*apihour>")
        self.audited.append("wait")

    async def waits(self) -> None:
        """Until the fleet was asked to wait, for this operator."""
        fleet = self.operator.session.context.fleet
        assert isinstance(fleet, WaitingFleet)
        name = self.operator.session.identity.name
        await wait_until(lambda: name in fleet.waiters, 30)
        fleet.waiters.discard(name)

    async def searches(self) -> None:
        await self.line(f"version --limit 1 --worker {self.operator.number}", "apihour 1.0")
        await self.operator.type("\x12--limit")
        await self.operator.expect("--limit 1")
        await self.operator.type("\r")
        await self.operator.expect("apihour 1.0.*apihour>")
        self.audited.append(self.audited[-1])

    async def pages(self) -> None:
        await self.operator.type("long\r")
        self.audited.append("long")
        await self.operator.expect("more")
        await self.operator.type("q")
        await self.operator.expect("apihour>")

    async def watches(self) -> None:
        await self.operator.type("watch 0.2 workers\r")
        self.audited.append("watch 0.2 workers")
        await self.operator.expect("every 0.2 s")
        await self.operator.type("\x03")
        await self.operator.expect("apihour>")

    async def pythons(self) -> None:
        await self.operator.type("python 1\r")
        await self.operator.expect(">>>")
        source = f"'{self.word}' * 2"
        await self.operator.type(source + "\r")
        await self.operator.expect(f"{self.word}{self.word}.*>>>")
        await self.operator.type("wait\r")
        await self.waits()
        await self.operator.type("\x03")
        await self.operator.expect(">>>")
        await self.operator.type("\x04")
        await self.operator.expect("apihour>")
        self.audited += [source, "wait", "python 1"]  # the prompt's own line when it is left


# Nine: each step is somebody's first, and of each three steps all roles take part.
@pytest.mark.parametrize("count", [2, 3, 9])
async def test_days_of_many_operators_at_once(open_session: Open, count: int) -> None:
    roles = [ROLES[(number + 2) % 3] for number in range(count)]
    days = [Day(open_session(role), role) for role in roles]
    async with asyncio.timeout(100), asyncio.TaskGroup() as group:
        for day in days:
            group.create_task(day.run())
    for day in days:
        assert day.operator.commands() == day.audited
        assert set(re.findall(r"nr\d+x", day.operator.raw)) == {day.word}
        others = {f"user{one.operator.number} " for one in days if one is not day}
        assert not [name for name in others if name in day.operator.raw]


async def test_python_keeps_the_names_of_each_session_apart(open_session: Open) -> None:
    found: list[set[str]] = []
    for _ in range(5):  # a new session may well lie where one that ended lay in memory
        operator = open_session()
        await operator.expect("apihour>")
        fleet = operator.session.context.fleet
        assert isinstance(fleet, WaitingFleet)
        fleet.names.clear()
        for _ in range(2):  # and one keeps its own from prompt to prompt
            await operator.type("python 1\r")
            await operator.expect(">>>")
            await operator.type("1 + 1\r")
            await operator.expect("2\n.*>>>")
            await operator.type("\x04")
            await operator.expect("apihour>")
        found.append(set(fleet.names))
        await operator.close()
        operator.session.shell = None
        gc.collect()
    assert all(len(names) == 1 for names in found)
    assert len(set.union(*found)) == len(found)


async def test_the_window_of_the_daemon_is_nobodys(open_session: Open) -> None:
    first, second = open_session(), open_session()
    for one in (first, second):
        await one.expect("apihour>")
        await one.type("top\r")
        await one.expect("q quit")
        await one.type("q")
        await one.expect("apihour>")
    assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL
    await first.close()
    assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL
    await second.type("version\r")
    await second.expect("apihour 1.0")
    await second.close()
    assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL


async def test_a_resize_reaches_the_prompt_in_front(open_session: Open) -> None:
    first, second = open_session(), open_session()
    for one in (first, second):
        await one.expect("apihour>")
        await one.type("python 1\r")
        await one.expect(">>>")
        await one.type("\x04")
        await one.expect("apihour>")
    await second.type("some words")
    await second.expect("words")
    before = first.raw
    second.session.terminal_size_changed(60, 20, 0, 0)
    await second.expect("some words")  # painted anew: what runs is the shell's prompt again
    assert first.raw == before


async def test_nothing_of_a_session_stays(open_session: Open) -> None:
    first = open_session()
    await first.type("half a line")
    await first.expect("line")
    second = open_session()
    await second.type("half a line")
    await second.expect("line")
    assert first.session.shell is not None
    left = weakref.ref(first.session.shell.editor)  # type: ignore[arg-type]
    await first.close()
    first.session.shell = first.session.terminal = None
    await wait_until(lambda: gc.collect() >= 0 and left() is None)
    await second.type("\x03version\r")
    await second.expect("apihour 1.0")
