"""Hosts of a fleet in one process, on a bus that counts what is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncssh

from apihour.bus import BusMessage, BusTimeoutError, NoResponderError
from apihour.errors import ApihourError
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import Column, Command, Parameter, Role
from apihour_console.calls.call import Call, Identity, Result
from apihour_console.calls.parsing import parse_call
from apihour_console.hosts.far_end import FarEnd
from apihour_console.hosts.hosts import Hosts
from apihour_console.hosts.letters import Seal
from apihour_console.keys.authorized import parse_authorized_keys
from apihour_console.shell.audit import AuditLog

LOGGER = logging.getLogger("tests.fleet")
KEY = b"k" * 64


class Wire:
    """What carries the messages of all hosts; hosts in `cut` are not reached and reach nobody."""

    def __init__(self) -> None:
        self.readers: dict[str, list[tuple[str, asyncio.Queue[BusMessage], str]]] = {}
        self.sent = 0
        self.bytes = 0
        self.cut: set[str] = set()
        self.letters: list[tuple[str, bytes]] = []
        self.answers: list[bytes] = []
        self.loses: Callable[[dict[str, Any]], bool] | None = None

    def is_lost(self, data: bytes) -> bool:
        """Whether a letter, or an answer, is lost, as `loses` says."""
        return self.loses is not None and self.loses(json.loads(data[64:]))

    def deliver(self, sender: str, subject: str, message: BusMessage) -> int:
        self.letters = [*self.letters[-99:], (subject, message.data)]
        if self.is_lost(message.data):
            return len(self.readers.get(subject, ()))
        if sender in self.cut:
            return 0
        groups: set[str] = set()
        found = []
        for entry in self.readers.get(subject, ()):
            if not entry[2] or entry[2] not in groups:  # the first of a queue group
                groups.add(entry[2])
                found.append(entry)
        for host, queue, _ in found:
            self.sent += 1
            self.bytes += len(message.data)
            if host not in self.cut:
                queue.put_nowait(message)
        return len(found)

    def listening(self, subject: str) -> int:
        return len(self.readers.get(subject, ()))


class WiredBus:
    """The bus as one host has it."""

    def __init__(self, wire: Wire, host: str) -> None:
        self.wire, self.host = wire, host

    async def publish(self, subject: str, data: bytes = b"") -> None:
        self.wire.deliver(self.host, subject, BusMessage(subject, data))

    @contextlib.asynccontextmanager
    async def subscribe(
        self, subject: str, *, queue: str = "") -> AsyncIterator[AsyncIterator[BusMessage]]:
        entry = self.host, asyncio.Queue[BusMessage](), queue
        readers = self.wire.readers.setdefault(subject, [])
        readers.append(entry)

        async def messages() -> AsyncIterator[BusMessage]:
            while True:
                yield await entry[1].get()

        try:
            yield messages()
        finally:
            readers.remove(entry)

    async def gather(
        self, subject: str, data: bytes = b"", deadline: float = 1.0, expect: int | None = None,
    ) -> list[BusMessage]:
        answers: list[BusMessage] = []
        enough, wanted = asyncio.Event(), expect or self.wire.listening(subject)

        async def answer(data: bytes) -> None:
            self.wire.sent += 1
            self.wire.bytes += len(data)
            self.wire.answers = [*self.wire.answers[-99:], data]
            if self.host not in self.wire.cut and not self.wire.is_lost(data):
                answers.append(BusMessage("answer", data))
                if len(answers) >= wanted:
                    enough.set()

        if self.wire.deliver(self.host, subject, BusMessage(subject, data, answer)):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(enough.wait(), deadline)
        return answers

    async def request(self, subject: str, data: bytes = b"", timeout: float = 1.0) -> BusMessage:
        if not self.wire.listening(subject):
            raise NoResponderError("nobody")
        found = await self.gather(subject, data, timeout, 1)
        if not found:
            raise BusTimeoutError("late")
        return found[0]


class HostDouble:
    """The fleet of one host: two workers, whatever is asked."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.done: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        self.fails: set[str] = set()
        self.takes = 0.0
        self.slow: dict[str, float] = {}  # seconds, by command
        self.counted = {"arbiter": 1, "reloads": 0, "failed": 0}
        self.audit = AuditLog(None, LOGGER)
        self.catalogue = Catalogue()
        columns = (Column("worker", "str"), Column("pid", "int"))
        for command in (
            Command("workers", "the workers", collects="console", columns=columns),
            Command("stack", "where", collects="console", columns=columns,
                    parameters=(Parameter("worker", "worker", positional=True),)),
            Command("big", "much", collects="console"),
            Command("health", "how", collects="console"),
            Command("kick", "one away", role=Role.OPERATOR, collects="console", acts="daemon",
                    columns=columns),
            Command("logs", "lines", collects="agent", streams=True,
                    columns=(Column("time", "float"), Column("message", "str")),
                    parameters=(Parameter("follow", "bool", short="f"),)),
            Command("reload", "again", role=Role.OPERATOR, collects="arbiter", acts="daemon",
                    deadline=600.0, parameters=(
                        Parameter("canary", "int"), Parameter("fleet", "bool"))),
            Command("rollback", "back", role=Role.OPERATOR, collects="arbiter", acts="daemon",
                    deadline=600.0),
        ):
            self.catalogue.add(command)

    async def execute(self, call: Call, identity: Identity) -> Result:
        name = call.command.name
        try:
            identity.check(call.command)
        except ApihourError as error:
            return Result(status=error.exit_status, error=str(error))
        self.done.append(name)
        self.asked.append({key: one for key, one in call.arguments.items() if one is not None})
        await asyncio.sleep(self.slow.get(name, self.takes))
        if name in ("reload", "rollback"):
            self.counted["failed" if name in self.fails else "reloads"] += 1
        if name in self.fails:
            return Result(status=1, error=f"{name}: it does not come up")
        if name == "logs":
            return Result.of(call, self.told)
        if name == "big":
            return Result.of(call, [{"text": "x" * 10_000} for _ in range(200)])
        rows = [{"worker": f"{slot}.1", "pid": slot} for slot in (1, 2)]
        return Result.of(call, [row for row in rows if call.worker in ("all", row["worker"])])

    async def stream(self, call: Call, identity: Identity) -> AsyncIterator[dict[str, Any]]:
        for number in range(3):
            yield {"time": float(number), "message": f"{self.name} {number}"}
        try:
            await asyncio.sleep(3600)
        finally:
            self.done.append("end of stream")


class Fleet:
    """Hosts on one wire; the operator's key is authorised on all of them."""

    def __init__(self, *names: str, role: str = "admin") -> None:
        self.wire = Wire()
        self.key = asyncssh.generate_private_key("ssh-ed25519").convert_to_public()
        self.line = self.key.export_public_key("openssh").decode().strip()
        self.doubles = {name: HostDouble(name) for name in names}
        self.lines = dict.fromkeys(names, f'role="{role}" {self.line}')
        self.hosts: dict[str, Hosts] = {}
        self.who = Identity("ann", self.key.get_fingerprint(), Role.ADMIN, "127.0.0.1:5")

    async def join(
        self, name: str, key: bytes = KEY, hello: bool = True, home: str = "") -> Hosts:
        seal, bus, double = Seal(lambda: (key,)), WiredBus(self.wire, name), self.doubles[name]
        found = Hosts(name, "shop", bus, seal, double, LOGGER,  # type: ignore[arg-type]
                      home)
        found.far_end = FarEnd(name, bus, seal, double, double.audit,  # type: ignore[arg-type]
                               lambda: parse_authorized_keys(self.lines[name]), LOGGER)
        found.facts = lambda: {**double.counted, "status": "ok",
                               "workers": 2, "generation": 1, "version": "1"}
        self.hosts[name] = found
        await (found.start() if hello else found.listen())
        return found

    async def __aenter__(self) -> Fleet:
        await asyncio.gather(*(self.join(name) for name in self.doubles))
        return self

    async def __aexit__(self, *exception: object) -> None:
        for host in self.hosts.values():
            await host.close()

    async def run(self, at: str, *words: str) -> Result:
        """What an operator at that host gets; as of the fleet's own execute()."""
        call = parse_call(words, self.doubles[at].catalogue)
        return await self.hosts[at].execute(call, self.who)
