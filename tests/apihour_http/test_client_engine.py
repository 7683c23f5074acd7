"""HTTPClient: an engine that asks a real server."""

import asyncio
import logging
from types import SimpleNamespace
from typing import Annotated, Any

import pytest

from apihour.app.container import Container
from apihour.engines import Resource, Transaction
from apihour.engines.engine_set import declare
from apihour_http import HTTPClient, HTTPServer, RouteError, Routes
from apihour_http.testing import Client
from tests.apihour.engines.support import until

from .support import serving


def asked():
    """Routes of the other service."""
    routes = Routes()

    @routes.get("/v1/price")
    async def price(request):
        return {"price": 5, "who": request.headers.get("X-Who")}

    @routes.get("/")
    async def fine(request):
        return "fine"

    @routes.get("/slow")
    async def slow(request):
        await asyncio.sleep(60)

    return routes


routes = Routes()


@routes.get("/price")
async def price(request, shop: Annotated[Any, Resource()]):
    async with shop.get("/v1/price?token=hidden") as answer:
        return await answer.json()


@routes.get("/slow")
async def slow(request, shop: Annotated[Any, Resource()]):
    async with shop.get("/slow") as answer:
        return answer.status


def house(client, served=routes):
    class House(Container):
        def make_engines(self):
            return {"shop": client}

        def make_servers(self):
            return {"http": HTTPServer(served)}

    return House


async def test_an_endpoint_asks_another_service() -> None:
    async with serving(asked()) as other:
        engine = HTTPClient(other.url, max=2, timeout=0.2, headers={"X-Who": "hidden-too"})
        async with Client(house(engine)) as client:
            assert (await client.get("/price")).json() == {"price": 5, "who": "hidden-too"}
            told = engine.statistics()
            assert (told["busy"], told["errors"], told["max"]) == (0, 0, 2)
            assert told["slowest_query"] == "GET 127.0.0.1/v1/price" and told["slowest"] > 0
            assert (await client.get("/slow")).status == 500
            assert engine.statistics()["errors"] == 1 and engine.statistics()["busy"] == 0
            assert "hidden" not in repr(engine) + str(engine.statistics())
        assert engine.session is None


def context(name: str = "shop") -> SimpleNamespace:
    return SimpleNamespace(name=name, container=None, logger=logging.getLogger("test"))


async def test_a_server_that_hangs_holds_nobody_for_ever_and_figures_stay_true() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def ask(path: str) -> bytes:
        async with engine.session.get(path) as answer:
            return await answer.read()  # type: ignore[no-any-return]

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        engine = HTTPClient(f"http://127.0.0.1:{port}/", max=1, timeout=0.5)
        await engine.start(context())
        tasks = [asyncio.create_task(ask(path)) for path in "abc"]
        await until(lambda: engine.statistics()["waiting"] == 2)
        assert (engine.statistics()["busy"], engine.statistics()["size"]) == (1, 1)
        for task in tasks[1:]:
            task.cancel()  # their clients have left
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in found] == [TimeoutError, *2 * [asyncio.CancelledError]]
        told = engine.statistics()
        assert (told["busy"], told["waiting"], told["errors"]) == (0, 0, 1)
        await engine.close()


@pytest.mark.parametrize("path", ["v1", "v1/", "v1?token=hidden"])
async def test_paths_are_asked_below_its_url(path: str) -> None:
    async with serving(asked()) as other:
        engine = HTTPClient(f"{other.url}/{path}")
        await engine.start(context())
        async with engine.session.get("price") as answer:
            assert (await answer.json())["price"] == 5
        await engine.close()


async def test_what_a_session_does_not_take_is_told_by_name() -> None:
    engine = HTTPClient("http://127.0.0.1:1/", session={"bogus": "hidden"})
    said = r"^engine 'shop' \(http at http://127.0.0.1:1/\): session: .* 'bogus'$"
    with pytest.raises(ValueError, match=said):
        await engine.start(context())


async def test_its_health_is_that_of_its_url(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(asked()) as other:
        engine = HTTPClient(other.url, health=True)
        await engine.start(context())
        assert engine.up
        await engine.close()
        gone = other.url
    engine = HTTPClient(gone.replace("//", "//user:hidden@"), health=True)
    with pytest.raises(ConnectionError, match=r"engine 'shop' \(http at http://127") as failure:
        await engine.start(context())
    assert "hidden" not in str(failure.value) and engine.session is None
    patient = engine.configured({"at_start": "retry"})
    await patient.start(context())
    assert not patient.up and "is down" in caplog.text and "hidden" not in caplog.text
    await patient.close()


def test_the_configuration_makes_one() -> None:
    found = declare({}, {"shop": {"url": "https://user:hidden@shop.example:8443/v1?key=hidden"},
                         "http": {"max": 5}})
    assert [type(one) for one in found.values()] == [HTTPClient, HTTPClient]
    assert found["shop"].examine() == "https://shop.example:8443/v1"  # type: ignore[attr-defined]


async def test_it_has_no_transactions() -> None:
    own = Routes()

    @own.get("/")
    async def one(request, shop: Annotated[Any, Transaction()]): ...

    with pytest.raises(RouteError, match=r"engine 'shop': Transaction: expected Resource\(\)"):
        async with Client(house(HTTPClient(), own)):
            pass


@pytest.mark.parametrize(("options", "said"), [
    ({"maxx": 1}, "option 'maxx': expected one of url"),
    ({"max": 0}, "max: expected a whole number"),
    ({"timeout": "hidden"}, "timeout: expected seconds"),
    ({"health": True}, "health: expected a url"),
    ({"headers": "hidden"}, "headers: expected a mapping"),
    ({"at_start": "hidden"}, "at_start: expected fail or retry"),
    ({"url": "ftp://hidden"}, "url: expected http://"),
    ({"url": "http://h:hidden"}, "url: expected http://"),
])
def test_an_option_out_of_range(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as failure:
        HTTPClient(**options)
    assert "hidden" not in str(failure.value)
