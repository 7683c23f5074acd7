"""The configurations of nginx and HAProxy that docs/howto/proxy.rst has do what it says."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from tests.docs.blocks import ROOT, blocks
from tests.ports import free_port

PAGE = ROOT / "docs" / "howto" / "proxy.rst"
APPLICATION = '''\
import apihour
from apihour_http import SSE, HTTPServer, Routes

routes = Routes()

@routes.get("/")
async def index(request):
    return {"remote": request.remote, "scheme": request.scheme, "host": request.host}

async def ticks():
    import asyncio
    yield "first"
    await asyncio.sleep(60)

@routes.get("/events")
async def events(request):
    return SSE(ticks())

@routes.websocket("/socket")
async def socket(request, websocket):
    await websocket.accept()
    await websocket.send(await websocket.receive())

class Container(apihour.Container):
    binds = {"http": "127.0.0.1:8000"}
    def make_servers(self):
        return {"http": HTTPServer(routes)}
'''


@pytest.fixture(scope="module")
def shop(apihour_module_daemon, tmp_path_factory):
    directory = tmp_path_factory.mktemp("shop")
    (directory / "shop.py").write_text(APPLICATION)
    return apihour_module_daemon(
        "shop:Container", "-b", "http=127.0.0.1:0", "--health", "127.0.0.1:0", cwd=directory)


def configuration(name: str, ports: dict[str, int]) -> str:
    (text,) = (block.text for block in blocks(PAGE) if block.name == name)
    for number, port in ports.items():
        text = text.replace(number, str(port))
    return text


@pytest.fixture(params=["nginx", "haproxy"])
def proxy(request, shop, tmp_path: Path) -> Iterator[str]:
    """The address of the proxy in front of the application."""
    program = shutil.which(request.param) or shutil.which(request.param, path="/usr/sbin")
    if program is None:
        pytest.skip(f"needs {request.param}")
    port = free_port()
    if request.param == "nginx":
        (tmp_path / "shop.conf").write_text(configuration(
            "shop.conf", {"127.0.0.1:8000": f"127.0.0.1:{shop.port('http')}",
                          "listen 8080": f"listen 127.0.0.1:{port}"}))
        temporary = "".join(
            f"{kind}_temp_path {tmp_path}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {tmp_path}/pid; error_log stderr;\n"
            f"events {{}} http {{ access_log off; {temporary} include shop.conf; }}\n")
        command = [program, "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf")]
    else:
        health = int(shop.wait_log(r"@health=").rpartition(":")[2])
        (tmp_path / "haproxy.cfg").write_text(configuration("haproxy.cfg", {
            "127.0.0.1:8000": f"127.0.0.1:{shop.port('http')}", "9100": health,
            "127.0.0.1:8081": f"127.0.0.1:{port}"}))
        command = [program, "-db", "-f", str(tmp_path / "haproxy.cfg")]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until_it_answers(f"127.0.0.1:{port}", process, tmp_path / "log")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        finally:
            process.kill()


def wait_until_it_answers(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 30
    while curl("-f", f"http://{address}/").returncode:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def curl(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["curl", "-sS", *options], capture_output=True, text=True, timeout=60)


def test_what_passes_through_a_proxy(proxy: str) -> None:
    done = curl("-H", "X-Forwarded-For: 203.0.113.9", "-H", "Host: shop.example",
                f"http://{proxy}/")
    # The proxy adds this machine, which is believed: so the one before counts.
    assert done.stdout == '{"remote":"203.0.113.9","scheme":"http","host":"shop.example"}'
    done = curl("-N", "-m", "1", f"http://{proxy}/events")
    assert done.stdout.startswith("data: first")

    async def echoed() -> str | bytes:
        async with connect(f"ws://{proxy}/socket") as websocket:
            await websocket.send("milk")
            return await websocket.recv()

    assert asyncio.run(echoed()) == "milk"
