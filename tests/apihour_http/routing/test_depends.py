"""What endpoints are given beside request and data: dependencies, and what has their shape."""

import asyncio
from contextlib import asynccontextmanager
from typing import Annotated

import pytest

from apihour_http import Depends, HTTPError, RouteError, Routes
from apihour_http.testing import Client


class Provided:
    """A provider of somebody else: its shape is enough."""

    def __init__(self, log=None, fails=None):
        self.log = log if log is not None else []
        self.fails = fails

    def key(self, parameter):
        return parameter

    def provide(self, parameter, container):
        if self.fails:
            raise LookupError(self.fails)

        @asynccontextmanager
        async def opened(request):
            self.log.append(f"open {parameter}")
            try:
                yield f"{parameter} of {request.path}"
            except BaseException as error:
                self.log.append(type(error).__name__)
                raise
            finally:
                self.log.append("close")

        return opened


async def ask(routes, path="/", **options):
    async with Client(routes, **options) as client:
        return await client.get(path)


async def test_a_provider_gives_the_argument_and_sees_how_it_ends():
    log, routes = [], Routes()

    @routes.get("/good")
    async def good(request, pg: Annotated[str, Provided(log)]):
        log.append("called")
        return {"pg": pg}

    @routes.get("/bad")
    async def bad(request, pg: Annotated[str, Provided(log)]):
        raise HTTPError(409)

    @routes.get("/slow", timeout=0.05)
    async def slow(request, pg: Annotated[str, Provided(log)]):
        await asyncio.sleep(60)

    async with Client(routes) as client:
        assert (await client.get("/good")).json() == {"pg": "pg of /good"}
        assert (await client.get("/bad")).status == 409
        assert (await client.get("/slow")).status == 503
    assert log == ["open pg", "called", "close", "open pg", "HTTPError", "close",
                   "open pg", "CancelledError", "close"]


async def test_data_that_are_refused_open_nothing():
    log, routes = [], Routes()

    @routes.get("/{n}")
    async def one(request, n: int, pg: Annotated[str, Provided(log)], more: int = 3):
        return [n, more, pg]

    async with Client(routes) as client:
        assert (await client.get("/x")).status == 422 and log == []
        assert (await client.get("/5?more=7")).json() == [5, 7, "pg of /5"]


def session(request):
    return request.headers.get("X-User", "nobody")


async def user(request, name: Annotated[str, Depends(session)]):
    if name == "nobody":
        raise HTTPError(401)
    return {"name": name}


async def test_dependencies_of_dependencies_are_called_once_in_a_request():
    calls, routes = [], Routes()

    def counted():
        calls.append(1)
        return len(calls)

    async def more(number: Annotated[int, Depends(counted)]):
        return number * 10

    @routes.get("/")
    async def one(request, who: Annotated[dict, Depends(user)],
                  a: Annotated[int, Depends(counted)], b: Annotated[int, Depends(more)]):
        return [who["name"], a, b]

    async with Client(routes, headers={"X-User": "ada"}) as client:
        assert (await client.get("/")).json() == ["ada", 1, 10]
        assert (await client.get("/")).json() == ["ada", 2, 20]
    assert (await ask(routes)).status == 401


async def test_generators_clean_up_the_last_first_and_see_the_exception():
    log, routes = [], Routes()

    async def outer(request):
        log.append("outer")
        try:
            yield 1
        finally:
            log.append("outer ends")

    def inner(one: Annotated[int, Depends(outer)]):
        try:
            yield one + 1
        except ZeroDivisionError:
            log.append("inner saw it")
            raise
        finally:
            log.append("inner ends")

    @routes.get("/{by}")
    async def divided(request, by: int, two: Annotated[int, Depends(inner)]):
        return two / by

    async with Client(routes) as client:
        assert (await client.get("/2")).json() == 1.0
        assert log == ["outer", "inner ends", "outer ends"]
        log.clear()
        assert (await client.get("/0")).status == 500
    assert log == ["outer", "inner saw it", "inner ends", "outer ends"]


async def test_one_that_swallows_the_exception_is_an_error():
    routes = Routes()

    async def forgiving():
        try:
            yield 1
        except ZeroDivisionError:
            pass

    class Forgiving(Provided):
        def provide(self, parameter, container):
            return lambda request: asynccontextmanager(forgiving)()

    @routes.get("/a")
    async def one(request, x: Annotated[int, Depends(forgiving)]):
        return 1 / 0

    @routes.get("/b")
    async def other(request, x: Annotated[int, Forgiving()]):
        return 1 / 0

    async with Client(routes) as client:
        assert (await client.get("/a")).status == (await client.get("/b")).status == 500


async def test_a_test_puts_others_in_their_place():
    routes = Routes()

    @routes.get("/")
    async def one(request, who: Annotated[dict, Depends(user)],
                  pg: Annotated[str, Provided(fails="there is none")]):
        return [who, pg]

    async def fake(request):
        yield "fake"

    answer = await ask(routes, overrides={user: lambda: "test", "pg": fake})
    assert answer.json() == ["test", "fake"]
    with pytest.raises(RouteError, match="overrides: ask: no endpoint asks for it"):
        await ask(routes, overrides={user: lambda: 1, "pg": fake, ask: fake})
    with pytest.raises(RouteError, match="overrides: 'pg': 5; expected a function"):
        await ask(routes, overrides={"pg": 5})


async def test_no_msgspec_and_no_document_for_what_is_provided_alone(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "msgspec", None)
    routes = Routes()

    @routes.get("/")
    async def one(request, who: Annotated[str, Depends(session)]):
        return who

    async with Client(routes) as client:
        assert (await client.get("/")).text == "nobody"
        assert (await client.get("/openapi.json")).status == 404


async def test_what_says_its_status_is_answered_with_it():
    class DownError(Exception):
        http_status = 503

    routes = Routes()

    @routes.get("/")
    async def one(request):
        raise DownError("secret place")

    answer = await ask(routes)
    assert answer.status == 503 and answer.headers["Retry-After"] == "1"
    assert b"secret" not in answer.body


def bad_routes():
    def plain(request, x: Annotated[int, Depends(session)]): ...
    async def a_class(request, x: Annotated[int, Provided]): ...
    async def no_request(x: Annotated[int, Depends(session)]): ...
    async def not_there(request, x: Annotated[int, Provided(fails="engine 'x': none")]): ...
    async def unknown(request, other): ...
    async def asks_unknown(request, x: Annotated[int, Depends(unknown)]): ...
    async def twice(request, x: Annotated[int, Provided()]): ...
    async def asks_twice(request, x: Annotated[int, Provided()], y: Annotated[int, Depends(twice)]):
        ...
    async def in_union(request, x: Annotated[int, Provided()] | None): ...
    async def in_list(request, x: list[Annotated[int, Depends(session)]] = ()): ...
    async def bare(request, x: Depends(session)): ...
    async def default(request, x=Depends(session)): ...  # noqa: B008  # as elsewhere
    async def late_default(request, x: Annotated[int, Depends(default)]): ...
    async def by_place(request, x: Annotated[int, Depends(session)], /): ...
    async def many(request, *x: Annotated[int, Depends(session)]): ...
    async def data_by_place(request, x: int, /): ...
    for function in (in_union, in_list, bare):
        yield function, "parameter 'x' of .*: expected Annotated.* around the whole type"
    for function in (default, late_default):
        yield function, r"asks by its default; expected Annotated\[…, Depends\(…\)\]"
    for function in (by_place, many, data_by_place):
        yield function, "parameter 'x' of .*: is .*positional.*; expected one that is given by"
    yield plain, "asks for 'x', which has to be waited for: expected an async def"
    yield a_class, r"parameter 'x' of .*: Provided: expected Provided\(…\), not the class"
    yield no_request, "expected the request before 'x'"
    yield not_there, "parameter 'x': engine 'x': none"
    yield asks_unknown, r"parameter 'other' of .*unknown: expected Annotated\[…, Depends"
    yield asks_twice, "'x' is asked for as .* expected the same"


@pytest.mark.parametrize(("function", "said"), list(bad_routes()))
async def test_what_cannot_be_provided_is_told_at_the_start(function, said):
    routes = Routes()
    with pytest.raises(RouteError, match=said):
        routes.get("/")(function)
        await ask(routes)


async def circle_a(request, b: "Annotated[int, Depends(circle_b)]"): ...
async def circle_b(request, a: "Annotated[int, Depends(circle_a)]"): ...


async def test_a_circle_is_named():
    routes = Routes()
    routes.get("/")(_asks_for_a)
    with pytest.raises(RouteError, match="a circle of dependencies: circle_a → circle_b → circle"):
        await ask(routes)


async def _asks_for_a(request, a: Annotated[int, Depends(circle_a)]): ...


async def test_an_endpoint_that_asks_for_nothing_is_called_as_it_is():
    routes = Routes()

    @routes.get("/")
    async def plain(request):
        return 1

    async with Client(routes) as client:
        (endpoint,) = client.server.service.table.endpoints
        assert endpoint.call is plain


@pytest.mark.parametrize("function", [None, 5])
def test_what_is_no_function_is_told_where_it_stands(function):
    with pytest.raises(RouteError, match=rf"^Depends\({function}\): expected a function$"):
        Depends(function)
