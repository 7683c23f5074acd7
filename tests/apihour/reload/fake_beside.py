"""What stands beside a reload: who imports, opens and follows, and what they make."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from apihour.bind.addresses import parse_address
from apihour.books.probe import ProbeReport


class FakeProbe:
    """A probe whose report comes when the test says so."""

    def __init__(self) -> None:
        self.report: ProbeReport | None = None
        self.killed = self.closed = False

    def poll(self) -> ProbeReport | None:
        return self.report

    def kill(self) -> None:
        self.killed = True

    def close(self) -> None:
        self.closed = True


class FakeApp:
    """An application whose configuration is one word."""

    beside: Beside

    def __init__(self) -> None:
        self.word = "old"

    def read(self, release: str) -> FakeConfiguration:
        if isinstance(self.beside.fresh_cfg, Exception):
            raise self.beside.fresh_cfg
        return FakeConfiguration("new", self.beside.fresh_cfg)

    def use(self, configuration: FakeConfiguration) -> None:
        self.word = configuration.word


@dataclass(frozen=True)
class FakeConfiguration:
    word: str
    cfg: Any
    directory: str = "/1"
    bind_levels: tuple[Any, ...] = ()

    def resolve(self, declared: Any) -> Any:
        return declared

    def entered(self) -> Any:
        return contextlib.nullcontext()


class FakeListener:
    def __init__(self, name: str) -> None:
        self.name = name
        self.address = parse_address("127.0.0.1:0")
        self.inode: int | None = None
        self.address: Any = SimpleNamespace(sticky=False)
        self.did: list[str] = []
        self.owns_path = False

    def close(self) -> None:
        self.did.append("close")

    def unlink(self) -> None:
        self.did.append("unlink")

    def listen(self, backlog: int) -> None:
        self.did.append(f"listen {backlog}")


class Beside:
    """Imports, opens and follows, as the test says; nothing of it is real."""

    def __init__(self, fresh_cfg: Any) -> None:
        self.fresh_cfg = fresh_cfg
        self.followed: list[str] = []
        self.probe = FakeProbe()
        self.extras_error: Exception | None = None

    def start_probe(self, release: str | None = None) -> Any:
        return self.probe

    def settle(self, generation: int, probe: Any) -> bool:
        return False  # no process is kept after its probe

    def drop(self, generation: int) -> None: ...

    def open_binds(
        self, binds: Any, cfg: Any, slots: int, have: Any, named: Any
    ) -> list[Any]:
        return [*have, *(FakeListener(name) for name in binds if name != "http")]

    def open_extras(self, cfg: Any, have: Any) -> dict[str, Any]:
        if self.extras_error is not None:
            raise self.extras_error
        return dict(have)

    def configure(self) -> None:
        self.followed.append("configured")

    def follow(self) -> None:
        self.followed.append("followed")
