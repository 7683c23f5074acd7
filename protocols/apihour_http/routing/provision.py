"""How what endpoints ask for is opened for each request, decided at start.

Rules:

- The data of a request are judged first: one that is refused with 422 opens nothing.
- A dependency that swallows the exception of the endpoint is an error: nobody would know what to
  answer.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from typing import Any

from apihour_http.endpoint import Endpoint
from apihour_http.errors import RouteError
from apihour_http.routing.depends import Asked, Depends, asked_of

__all__ = ["Provision"]

Opener = Callable[[Any], AbstractAsyncContextManager[Any]]
Got = dict[Hashable, Any]
Step = Callable[[AsyncExitStack, Any, Got], Awaitable[Any]]
Readers = list[tuple[str, Callable[[Any], Any]]]


class Provision:
    """What arguments are provided from: the container, and what stands in for it in tests.

    `overrides` are functions, in the sense of :class:`Depends`, by the function or the engine's
    name in the place of which they are.
    """

    def __init__(self, container: Any = None, overrides: Mapping[Any, Any] | None = None) -> None:
        self._container = container
        self._overrides = dict(overrides or {})
        self._unused = set(self._overrides)

    def see_overrides(self) -> None:
        """Raise RouteError for one that nothing asks for: what it was for has another name."""
        if self._unused:
            names = ", ".join(getattr(one, "__qualname__", repr(one)) for one in self._unused)
            raise RouteError(f"overrides: {names}: no endpoint asks for it")

    def wrap(
        self, endpoint: Endpoint, readers: Readers, asked: tuple[Asked, ...]
    ) -> Callable[[Any], Awaitable[Any]]:
        """A callable of the request alone, which opens what is `asked` for around the endpoint.

        Raises RouteError for what cannot be provided.
        """
        _see_async(endpoint, asked)
        route = f"route {endpoint.route()}"
        if len(asked) == 1 and (opened := self._opened_alone(route, asked[0])) is not None:
            return _with_one(endpoint.function, readers, asked[0].parameter, opened)
        steps: dict[Hashable, tuple[Any, Step]] = {}
        for one in asked:
            self._add(route, one, steps, ())
        order = [(key, step) for key, (_, step) in steps.items()]
        return _with_all(endpoint.function, readers,
                         [(one.parameter, one.key) for one in asked], order)

    def _opened_alone(self, route: str, one: Asked) -> Opener | None:
        if isinstance(one.provider, Depends) or one.key in self._overrides:
            return None
        return self._opened(route, one)

    def _opened(self, route: str, one: Asked) -> Opener:
        try:
            opened: Opener = one.provider.provide(one.parameter, self._container)
        except (LookupError, ValueError) as error:
            said = error.args[0] if error.args else error
            raise RouteError(f"{route}: parameter {one.parameter!r}: {said}") from None
        return opened

    def _add(
        self, route: str, one: Asked, steps: dict[Hashable, tuple[Any, Step]],
        within: tuple[Any, ...],
    ) -> None:
        """Add the steps that provide it, those it needs before it."""
        key = one.key
        if key in within:
            names = " → ".join(getattr(each, "__qualname__", str(each)) for each in (*within, key))
            raise RouteError(f"{route}: a circle of dependencies: {names}")
        if key in steps:
            if steps[key][0] != one.provider:
                raise RouteError(f"{route}: {key!r} is asked for as {steps[key][0]!r} and as "
                                 f"{one.provider!r}; expected the same, it is one in a request")
            return
        function = one.provider.function if isinstance(one.provider, Depends) else None
        if key in self._overrides:
            self._unused.discard(key)
            function = self._overrides[key]
            if not callable(function):
                raise RouteError(f"overrides: {key!r}: {function!r}; expected a function that "
                                 "returns or yields what stands in")
        if function is None:
            steps[key] = one.provider, _entered(self._opened(route, one))
            return
        takes_request, needs = asked_of(route, function)
        for need in needs:
            self._add(route, need, steps, (*within, key))
        steps[key] = one.provider, _called(
            function, takes_request, [(need.parameter, need.key) for need in needs])


def _see_async(endpoint: Endpoint, asked: tuple[Asked, ...]) -> None:
    if endpoint.plain or endpoint.blocking:
        raise RouteError(f"route {endpoint.route()}: {endpoint.name}: asks for "
                         f"{asked[0].parameter!r}, which has to be waited for: expected an "
                         "async def")


def _entered(opened: Opener) -> Step:
    async def step(stack: AsyncExitStack, request: Any, got: Got) -> Any:
        return await stack.enter_async_context(opened(request))

    return step


def _called(
    function: Callable[..., Any], takes_request: bool, needs: list[tuple[str, Hashable]]
) -> Step:
    """The step that calls a dependency, whatever kind of function it is."""
    def made(call: Callable[..., Any], request: Any, got: Got) -> Any:
        given = (request,) if takes_request else ()
        return call(*given, **{name: got[key] for name, key in needs})

    if inspect.isasyncgenfunction(function):
        manager = asynccontextmanager(function)

        async def step(stack: AsyncExitStack, request: Any, got: Got) -> Any:
            return await stack.enter_async_context(made(manager, request, got))
    elif inspect.isgeneratorfunction(function):
        plain = contextmanager(function)

        async def step(stack: AsyncExitStack, request: Any, got: Got) -> Any:
            return stack.enter_context(made(plain, request, got))
    else:
        async def step(stack: AsyncExitStack, request: Any, got: Got) -> Any:
            result = made(function, request, got)
            return await result if inspect.isawaitable(result) else result

    return step


def _with_one(
    function: Callable[..., Any], readers: Readers, parameter: str, opened: Opener
) -> Callable[[Any], Awaitable[Any]]:
    @functools.wraps(function)
    async def call(request: Any) -> Any:
        given = {name: read(request) for name, read in readers}
        async with opened(request) as given[parameter]:
            return await function(request, **given)
        raise _swallowed(function)

    return call


def _with_all(
    function: Callable[..., Any], readers: Readers, wanted: list[tuple[str, Hashable]],
    steps: list[tuple[Hashable, Step]],
) -> Callable[[Any], Awaitable[Any]]:
    @functools.wraps(function)
    async def call(request: Any) -> Any:
        given = {name: read(request) for name, read in readers}
        got: Got = {}
        async with AsyncExitStack() as stack:
            for key, step in steps:
                got[key] = await step(stack, request, got)
            return await function(request, **given, **{name: got[key] for name, key in wanted})
        raise _swallowed(function)

    return call


def _swallowed(function: Callable[..., Any]) -> RuntimeError:
    name = getattr(function, "__qualname__", repr(function))
    return RuntimeError(f"{name}: a dependency has swallowed what it raised: expected it to raise "
                        "that again")
