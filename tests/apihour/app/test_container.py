"""The container: what it holds, what it makes on first use, what it closes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from apihour.app.container import Container
from apihour.errors import ConfigurationError
from tests.apihour.dns import DNSServer, dns_server
from tests.apihour.loops import Run, run

__all__ = ["run"]


async def test_what_it_is_given() -> None:
    loop, worker = asyncio.get_running_loop(), object()
    container = Container({"a": 1}, worker, loop)
    assert (container.config, container.worker, container.loop) == ({"a": 1}, worker, loop)
    assert (container.engines, container.services, container.servers) == ({}, {}, {})
    assert container.binds == {}


async def test_alone_it_takes_the_running_loop() -> None:
    container = Container()
    assert container.loop is asyncio.get_running_loop()
    assert container.config == {}


async def test_two_share_nothing() -> None:
    one, two = Container(), Container()
    one.config["x"] = one.engines["x"] = one.services["x"] = one.servers["x"] = 1
    assert (two.config, two.engines, two.services, two.servers) == ({}, {}, {}, {})


async def test_the_hooks_do_nothing_until_they_are_written() -> None:
    container = Container()
    assert container.make_servers() == {}
    for hook in (container.pre_start, container.start, container.shutdown, container.cleanup):
        assert await hook() is None  # type: ignore[func-returns-value]


def test_uvloop_is_the_default_loop() -> None:
    uvloop = pytest.importorskip("uvloop")
    loop = Container.make_event_loop({})
    try:
        assert isinstance(loop, uvloop.Loop)
    finally:
        loop.close()


def test_without_uvloop_it_is_asyncios(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    loop = Container.make_event_loop({})
    try:
        assert isinstance(loop, asyncio.BaseEventLoop)
    finally:
        loop.close()


async def test_closing_makes_nothing_first() -> None:
    container = Container()
    await container.close_made()
    assert not {"http", "resolver", "shared", "_cpu_pool"} & set(vars(container))


async def test_one_whose_close_fails_keeps_no_other_from_it(
    caplog: pytest.LogCaptureFixture
) -> None:
    class Made:
        def __init__(self, name: str) -> None:
            self.name = name

        async def close(self) -> None:
            closed.append(self.name)
            if self.name == "bus":
                raise OSError("it is gone")

    closed: list[str] = []
    container = Container()
    for name in ("shared", "presence", "bus"):
        vars(container)[name] = Made(name)
    await container.close_made()
    assert closed == ["bus", "presence", "shared"]
    assert "container.bus: its close failed" in caplog.text


@pytest.mark.parametrize(("attribute", "module"), [("resolver", "aiodns"), ("http", "aiohttp")])
async def test_a_missing_library_is_named(
    attribute: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"container.{attribute} needs {module}: pip install"):
        getattr(Container(), attribute)


@contextlib.asynccontextmanager
async def resolving(**names: str) -> AsyncIterator[tuple[Container, DNSServer]]:
    """A container whose resolver asks a server of the test's own."""
    async with dns_server({f"{name}.test": address for name, address in names.items()}) as dns:
        container = Container({"resolver": {
            "nameservers": ["127.0.0.1"], "udp_port": dns.port, "tcp_port": dns.port,
            "timeout": 2.0, "tries": 1,
        }})
        try:
            yield container, dns
        finally:
            await container.close_made()


def test_the_resolver_asks_the_configured_server(run: Run) -> None:
    async def body() -> None:
        async with resolving(db="192.0.2.7", six="2001:db8::7") as (container, dns):
            found = await container.resolver.query_dns("db.test", "A")
            assert [record.data.addr for record in found.answer] == ["192.0.2.7"]
            found = await container.resolver.query_dns("six.test", "AAAA")
            assert [record.data.addr for record in found.answer] == ["2001:db8::7"]
            assert container.resolver is container.resolver
            assert dns.asked == ["db.test", "six.test"]

    run(body)


def test_a_name_that_is_not_there(run: Run) -> None:
    async def body() -> None:
        import aiodns

        async with resolving() as (container, _):
            with pytest.raises(aiodns.error.DNSError):
                await container.resolver.query_dns("nowhere.test", "A")

    run(body)


@contextlib.asynccontextmanager
async def web_server() -> AsyncIterator[int]:
    async def handle(request: web.Request) -> web.Response:
        return web.json_response({"host": request.host, "peer": request.remote})

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    finally:
        await runner.cleanup()


def test_the_http_client_finds_hosts_by_that_resolver(run: Run) -> None:
    async def body() -> None:
        async with web_server() as port, resolving(service="127.0.0.1") as (container, dns):
            async with container.http.get(f"http://service.test:{port}/") as response:
                assert await response.json() == {
                    "host": f"service.test:{port}", "peer": "127.0.0.1"}
            assert set(dns.asked) == {"service.test"}
            assert container.http is container.http

    run(body)


def test_the_http_client_names_a_host_that_is_not_there(run: Run) -> None:
    async def body() -> None:
        async with resolving() as (container, _):
            with pytest.raises(aiohttp.ClientConnectorError, match=r"nowhere\.test"):
                await container.http.get("http://nowhere.test/")

    run(body)


def test_the_http_client_takes_addresses_as_they_are(run: Run) -> None:
    async def body() -> None:
        async with web_server() as port, resolving() as (container, dns):
            async with container.http.get(f"http://127.0.0.1:{port}/") as response:
                assert response.status == 200
            assert dns.asked == []

    run(body)


def test_what_was_made_is_closed_with_the_container(run: Run) -> None:
    async def body() -> None:
        async with resolving() as (container, _):
            session, resolver = container.http, container.resolver
            await container.close_made()
            assert session.closed
            with pytest.raises(Exception):  # noqa: B017 - any: releases of aiodns differ
                await resolver.query_dns("db.test", "A")
            assert not {"http", "resolver"} & set(vars(container))

    run(body)


async def test_the_shared_store_is_the_daemons(tmp_path: Path) -> None:
    worker: Any = SimpleNamespace(runtime=SimpleNamespace(shared=tmp_path / "shared"))
    one, two = Container({}, worker), Container({}, worker)
    await one.shared.put("k", b"v")
    entry = await two.shared.get("k")
    assert entry is not None
    assert entry.value == b"v"
    await one.close_made()
    await two.close_made()


async def test_cpu_work_runs_in_another_process() -> None:
    container = Container()
    try:
        assert await container.run_cpu(os.getpid) != os.getpid()
        with pytest.raises(ZeroDivisionError):
            await container.run_cpu(divmod, 1, 0)
    finally:
        await container.close_made()


async def test_cpu_work_goes_on_after_a_process_of_the_pool_died() -> None:
    container = Container()
    try:
        before = await container.run_cpu(os.getpid)
        with pytest.raises(BrokenProcessPool):
            await container.run_cpu(os._exit, 1)
        assert await container.run_cpu(os.getpid) not in (before, os.getpid())
        died = await asyncio.gather(
            container.run_cpu(os._exit, 1), container.run_cpu(os.getpid), return_exceptions=True)
        assert isinstance(died[0], BrokenProcessPool)
        assert await container.run_cpu(os.getpid) != os.getpid()
    finally:
        await container.close_made()


def wait_reaped(pid: int) -> None:
    """Until the pool has noticed that its process has ended."""
    deadline = time.monotonic() + 30
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_an_idle_process_that_was_killed_costs_no_call() -> None:
    container = Container()
    try:
        for _ in range(3):
            pid = await container.run_cpu(os.getpid)
            os.kill(pid, signal.SIGKILL)
            wait_reaped(pid)
            assert await container.run_cpu(os.getpid) not in (pid, os.getpid())
    finally:
        await container.close_made()


@pytest.mark.parametrize("processes", [1, 2])
async def test_a_process_killed_in_a_call_fails_that_call_only(processes: int) -> None:
    container = Container(config={"cpu_processes": processes})
    try:
        pids = set()
        while len(pids) < processes:
            pids |= set(await asyncio.gather(
                *(container.run_cpu(os.getpid) for _ in range(2 * processes))))
        calls = [asyncio.ensure_future(container.run_cpu(_note, 0.5)) for _ in range(5)]
        await asyncio.sleep(0.1)
        os.kill(pids.pop(), signal.SIGKILL)
        results = await asyncio.gather(*calls, return_exceptions=True)
        failed = [one for one in results if isinstance(one, BaseException)]
        assert [type(one) for one in failed] == [BrokenProcessPool], results
        assert len(results) == 5
    finally:
        await container.close_made()


async def test_calls_of_callers_that_left_hold_their_process_until_they_are_done() -> None:
    container = Container()
    try:
        await container.run_cpu(os.getpid)
        left = asyncio.ensure_future(container.run_cpu(time.sleep, 0.3))
        waiting = [asyncio.ensure_future(container.run_cpu(os.getpid)) for _ in range(3)]
        await asyncio.sleep(0.05)
        left.cancel()
        waiting[0].cancel()
        assert len(set(await asyncio.gather(*waiting[1:]))) == 1
        assert await container.run_cpu(os.getpid) == waiting[1].result()
    finally:
        await container.close_made()


def _note(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


async def test_a_bus_that_cannot_be_refuses_the_start_and_one_that_is_away_does_not(
    tmp_path: Path
) -> None:
    worker = SimpleNamespace(runtime=SimpleNamespace(path=tmp_path, shared=tmp_path / "shared"))
    with pytest.raises(ConfigurationError, match=r"bus: 'nat://x'; expected nats://HOST:PORT"):
        await Container({"bus": "nat://x"}, worker).open_engines({})
    for section in ({"bus": ""}, {"bus": {}}, {"shared": ""}, {"shared": 0}):
        with pytest.raises(ConfigurationError, match=f"^{next(iter(section))}: .*expected"):
            await Container(section, worker).open_engines({})
    container = Container({"bus": "nats://127.0.0.1:1"}, worker)
    await container.open_engines({})
    await container.close_made()


@pytest.mark.parametrize("name", ["bus", "presence", "shared"])
async def test_what_an_application_has_put_in_its_place_holds_up_no_drain(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    ended: list[str] = []

    def fails(is_work: Any) -> None:
        raise OSError("away")

    container = Container()
    container.__dict__.update(dict.fromkeys(("bus", "presence", "shared"), SimpleNamespace(
        retire=lambda is_work: ended.append("other"))))
    setattr(container, name, {})
    container.retire_made()
    await Container.close_made(SimpleNamespace(**{name: {}}))  # type: ignore[arg-type]
    assert len(ended) == 2 and not caplog.records
    setattr(container, name, SimpleNamespace(retire=fails))
    container.retire_made()
    assert len(ended) == 4 and f"container.{name}: its end failed" in caplog.text


async def test_a_call_under_way_is_cancelled_and_its_process_ended() -> None:
    container = Container()
    pid = await container.run_cpu(os.getpid)
    call = asyncio.ensure_future(container.run_cpu(time.sleep, 60))
    await asyncio.sleep(0)
    began = time.monotonic()
    await container.close_made()
    assert time.monotonic() - began < 10
    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
