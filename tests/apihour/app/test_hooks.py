"""Calling a container's hooks."""

from __future__ import annotations

import linecache
from typing import Any

import pytest

from apihour.app.container import Container
from apihour.app.hooks import call_class, call_hook, make_loop, see_hooks, takes_sockets
from apihour.errors import AddressError, HookError


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


class Wrong:
    start = 5

    def shutdown(self, gracefully: bool) -> None: ...

    @classmethod
    def make_event_loop(cls, config: Any) -> Any:
        return None

    def cleanup(self) -> None: ...


def line_of(text: str) -> str:
    lines = linecache.getlines(__file__)
    number = next(n for n, line in enumerate(lines, 1) if line.strip() == text)
    return f"({__file__}:{number}: {text})"


async def test_a_hook_that_is_none_is_named_where_it_stands() -> None:
    with pytest.raises(HookError) as caught:
        await call_hook(Wrong(), "start")
    assert str(caught.value) == (
        f"container {__name__}:Wrong: start = 5 {line_of('start = 5')}; "
        "expected a method, def start(self)")


async def test_a_hook_of_another_signature_is_named_where_it_stands() -> None:
    with pytest.raises(HookError) as caught:
        await call_hook(Wrong(), "shutdown")
    assert str(caught.value) == (
        f"container {__name__}:Wrong: shutdown() cannot be called: missing a required argument: "
        f"'gracefully' {line_of('def shutdown(self, gracefully: bool) -> None: ...')}; "
        "expected def shutdown(self)")


def test_a_constructor_of_another_signature() -> None:
    class Small:
        def __init__(self) -> None: ...

    with pytest.raises(HookError) as caught:
        call_class(Small, "__init__", config={}, worker=None, loop=None)
    assert "__init__() cannot be called: got an unexpected keyword argument 'config'" in str(
        caught.value)
    assert str(caught.value).endswith("expected def __init__(self, config, worker, loop)")


def test_a_loop_that_is_none() -> None:
    with pytest.raises(HookError) as caught:
        make_loop(Wrong, {})
    assert str(caught.value) == (
        f"container {__name__}:Wrong: make_event_loop() returned None "
        f"{line_of('def make_event_loop(cls, config: Any) -> Any:')}; expected an event loop, "
        "like asyncio.new_event_loop()")


def test_every_hook_is_seen_before_its_time() -> None:
    class Late(Container):
        def cleanup(self, what: str) -> None: ...  # type: ignore[override]

    with pytest.raises(HookError, match=r"Late: cleanup\(\) cannot be called"):
        see_hooks(Late(loop=object()))  # type: ignore[arg-type]

    class Servers(Container):
        make_servers = {"echo": 5}  # type: ignore[assignment]

    with pytest.raises(HookError, match=r"Servers: make_servers = \{'echo': 5\} "):
        see_hooks(Servers(loop=object()))  # type: ignore[arg-type]
    see_hooks(Container(loop=object()))  # type: ignore[arg-type]
