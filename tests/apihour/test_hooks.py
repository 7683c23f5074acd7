"""Calling a container's hooks."""

from __future__ import annotations

import linecache
from typing import Any

import pytest

from apihour.errors import AddressError, HookError
from apihour.hooks import call_hook, takes_sockets


class Hooks:
    async def asynchronous(self, x: int) -> int:
        return x + 1

    def synchronous(self, x: int) -> int:
        return x + 2

    def broken(self) -> None:
        raise KeyError("pg")  # here

    async def leaves(self) -> None:
        raise SystemExit(4)

    def own_error(self) -> None:
        raise AddressError("x", "y")


async def test_calls_both_kinds() -> None:
    assert await call_hook(Hooks(), "asynchronous", 1) == 2
    assert await call_hook(Hooks(), "synchronous", 1) == 3


async def test_a_failure_names_container_hook_file_line_and_text() -> None:
    with pytest.raises(HookError) as caught:
        await call_hook(Hooks(), "broken")
    message = str(caught.value)
    assert message.startswith(f"container {__name__}:Hooks: broken() failed: {__file__}:")
    line = int(message.split(f"{__file__}:")[1].split(":")[0])
    assert "# here" in linecache.getline(__file__, line)
    assert message.endswith("KeyError: 'pg'")
    assert isinstance(caught.value.__cause__, KeyError)


async def test_an_exit_is_a_failure() -> None:
    with pytest.raises(HookError, match=r"leaves\(\) failed: .*SystemExit: 4"):
        await call_hook(Hooks(), "leaves")


async def test_own_errors_pass_unchanged() -> None:
    with pytest.raises(AddressError):
        await call_hook(Hooks(), "own_error")


def test_the_ancestors_form_is_told_by_its_argument() -> None:
    class Old:
        async def make_servers(self, sockets: Any) -> None: ...

    class New:
        def make_servers(self) -> None: ...

    assert takes_sockets(Old())
    assert not takes_sockets(New())
