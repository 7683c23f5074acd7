"""What ``reload`` refuses, before the arbiter or another host is asked anything."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.ops.model import CommandFailed
from apihour_console.calls.call import Call, Identity
from apihour_console.commands.orders import commands
from apihour_console.fleet.host_rows import HostDeed


class ContextDouble:
    """A console in a fleet of two."""

    def __init__(self) -> None:
        command = commands.get("reload")
        assert command is not None
        self.call, self.identity = Call(command), Identity("ann")
        hosts = SimpleNamespace(reload=self.reload)
        self.fleet = SimpleNamespace(hosts_there=lambda: hosts)
        self.asked: list[tuple[Any, ...]] = []

    async def reload(
        self, identity: Identity, at_once: int, give_back: bool, options: list[str]) -> Any:
        self.asked.append((at_once, give_back, options))
        return [HostDeed("a", "done", 1.0), HostDeed("b", "done", 1.0)], []

    async def arbiter(self, order: str, seconds: float, **wish: Any) -> list[dict[str, Any]]:
        self.asked.append((order, wish))
        return []


def run(context: ContextDouble, **options: Any) -> Any:
    entry = commands.entry("reload")
    assert entry is not None and entry.function is not None
    return asyncio.run(entry.function(context, **options))


@pytest.mark.parametrize(("options", "said"), [
    ({"rollback": True}, "option --rollback: it is for a reload of all hosts; expected --fleet "
                         "beside it, or the command rollback"),
    ({"max_unavailable": 2}, "option --max-unavailable: it is for .* expected --fleet beside it$"),
    ({"fleet": True, "max_unavailable": 0}, "option --max-unavailable: 0; expected 1 or more"),
])
def test_options_that_would_not_be_heeded_are_refused(options: Any, said: str) -> None:
    context = ContextDouble()
    with pytest.raises(CommandFailed, match=said) as told:
        run(context, **options)
    assert told.value.kind == "usage"
    assert context.asked == []


@pytest.mark.parametrize(("options", "asked"), [
    ({}, ("reload", {})),
    ({"canary": 0}, ("reload", {"canary": 0})),
    ({"fleet": True}, (1, False, [])),
    ({"fleet": True, "canary": 1, "rollback": True, "max_unavailable": 3},
     (3, True, ["--canary=1"])),
])
def test_options_go_where_they_are_heeded(options: Any, asked: tuple[Any, ...]) -> None:
    context = ContextDouble()
    run(context, **options)
    assert context.asked == [asked]
