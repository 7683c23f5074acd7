"""The load of the benchmark of HTTP: requests that differ, and goals that can be missed."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import socket
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from apihour_http.testing import Client
from tests.postgres import fresh_database

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its module of that name; last in the path, as ``http.py`` there must not be ours."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS)])
    return importlib.import_module


def test_no_request_of_a_load_repeats_but_in_the_case_that_says_so(load: Any) -> None:
    requests = load("http_requests")
    for kind in requests.KINDS:
        sent = [each.raw for each in requests.distinct(kind, 500)]
        assert len(set(sent)) == len(sent) == (1 if kind == "same" else 500), kind
        assert sent == [each.raw for each in requests.distinct(kind, 500)], kind


def test_a_browser_sends_ten_headers_and_its_cookie(load: Any) -> None:
    requests = load("http_requests")
    first, second = (each.raw.split(b"\r\n") for each in requests.distinct("browser", 2))
    assert len(first[1:-2]) == 11
    assert [a.partition(b":")[0] for a, b in zip(first, second, strict=True) if a != b] == [
        b"Cookie"]


def test_wrk_sends_the_very_bytes(load: Any) -> None:
    requests, wrk = load("http_requests"), load("http_load")
    for kind in requests.KINDS:
        for sent in requests.distinct(kind, 20):
            quoted = wrk.quoted(sent)
            assert "\\u" not in quoted  # the escapes that are left mean the same in Lua
            assert quoted.encode("ascii")[1:-1].decode("unicode_escape").encode() == sent.raw


def test_the_curves_of_a_fleet_are_a_picture_and_straight(
    load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apihour_console.hosts.hosts._HELLO", 0.2)
    for name in ("asking", "insisting"):  # on a busy machine nobody is asked again
        monkeypatch.setattr(f"apihour_console.hosts.{name}.AGAIN", 5.0)
    fleet, chart = load("fleet"), load("fleet_chart")
    costs = [cost for hosts in (4, 8, 16) for cost in asyncio.run(fleet.measure(hosts))]
    letters = {(one.what, one.hosts): one.letters for one in costs}
    for what in ("join", "workers", "reload"):
        assert letters[what, 16] < 2.5 * letters[what, 8], "not as the square"
    picture = chart.draw("A & B", "<all>", fleet.panels(costs))
    assert picture.count("<circle") == 15
    assert "A &amp; B" in picture
    ElementTree.fromstring(picture)


def test_a_goal_is_missed_below_its_ratio_and_open_without_a_figure(load: Any) -> None:
    goals = load("http_goals").goals
    assert "FAIL" not in goals(lambda case, peer, ours: 5.0)
    assert "pass" not in goals(lambda case, peer, ours: 0.1)
    nothing = goals(lambda case, peer, ours: None)
    assert "pass" not in nothing
    assert "FAIL" not in nothing


WRK = """Running 4s test @ http://127.0.0.1:1/index
  Latency Distribution
     99%    1.25s
  4096 requests in 4.00s, 0.5MB read
Requests/sec:   1024.00
"""


def test_a_failed_answer_ends_a_run_of_the_ancestors_benchmark(load: Any) -> None:
    agents = load("agents")
    assert agents.read(WRK) == (4096, 1024.0, 1250.0)
    for wrong in ("  Socket errors: connect 0, read 1, write 0, timeout 0\n",
                  "  Non-2xx or 3xx responses: 7\n"):
        with pytest.raises(RuntimeError, match=wrong.split(":")[0].strip()):
            agents.read(WRK + wrong)
    with pytest.raises(RuntimeError, match="no answer"):
        agents.read(WRK.replace("4096", "0"))


def test_the_ancestors_goals_need_figures_of_both(load: Any) -> None:
    agents = load("agents")
    assert "pass" not in agents.goals({}) and "FAIL" not in agents.goals({})
    cheap, dear = agents.Figures(costs=[1.0, 2.0]), agents.Figures(costs=[25.0, 60.0])
    found = {"/index": {agents.OURS: cheap, "Flask, psycopg, gunicorn": dear},
             "/agents": {agents.OURS: dear, "Flask, psycopg, gunicorn": cheap}}
    assert [line.split()[-1] for line in agents.goals(found).splitlines()[2:]] == [
        "pass", "FAIL", "open"]


def test_the_arenas_requests_are_those_of_its_profiles(load: Any) -> None:
    arena = load("arena")
    for name, profile in arena.PROFILES.items():
        for text in profile.requests():
            quoted, _, filling = text.partition(" .. string.rep")
            head, _, body = json.loads(quoted).partition("\r\n\r\n")
            first, *fields = head.split("\r\n")
            assert re.fullmatch(r"(GET|POST|PUT) /[!-~]* HTTP/1\.1", first), (name, first)
            told = dict(field.split(": ", 1) for field in fields)
            if "Content-Length" in told:
                size = int(re.findall(r"\d+", filling)[0]) if filling else len(body)
                assert int(told["Content-Length"]) == size, (name, first)
    words = [json.loads(text).split()[0] for text in arena.PROFILES["crud"].requests()]
    assert Counter(words) == {"GET": 16, "PUT": 3, "POST": 1}


async def test_the_ancestors_benchmark_is_answered(
    postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncpg = pytest.importorskip("asyncpg")
    monkeypatch.setattr(sys, "path", [*sys.path, str(BENCHMARKS / "peers")])
    with fresh_database(postgres) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        common = importlib.import_module("agents_common")
        connection = await asyncpg.connect(url)
        await connection.execute(common.TABLES)
        await connection.close()
        async with Client(importlib.import_module("agents_apihour").Container) as client:
            assert (await client.get("/index")).json() == {"hello": "world"}
            found = (await client.get("/agents")).json()
    assert len(found) == 50
    assert found[1] == {
        "number": "301", "extension": None, "context": None, "state_interface": None,
        "status": "offline", "extension_status": "-1", "paused": "0"}
    assert found[2]["extension"] == "1003"


def test_a_link_loses_the_letter_that_it_is_told_to_and_doubles_others(load: Any) -> None:
    proxy, sealed = load("letters_proxy"), b"0" * 64
    with socket.create_server(("127.0.0.1", 0)) as server, proxy.Links(
            server.getsockname()[:2], 1) as links:
        port = links.open("web-1")
        links.links["web-1"].losing.append(("sent", "ask"))
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            far, _ = server.accept()
            far.settimeout(10)
            letters = [b"PUB a 1 %d\r\n%s\r\n" % (len(text), text) for text in (
                sealed + b'{"kind":"ask","nonce":"1"}', sealed + b'{"kind":"ask","nonce":"2"}')]
            client.sendall(b"PING\r\n" + b"".join(letters) + b"PUB b 5\r\n\r\n\r\n.\r\nPONG\r\n")
            expected = b"PING\r\n" + letters[1] + b"PUB b 5\r\n\r\n\r\n.\r\nPONG\r\n"
            assert read(far, len(expected)) == expected
            assert [(one.kind, one.nonce, one.fate) for one in links.letters] == [
                ("ask", "1", ()), ("ask", "2", (0.0,))]
            links.links["web-1"].rates = proxy.Rates(double=1.0)
            far.sendall(letters[0].replace(b"PUB a 1", b"MSG a 1"))
            assert read(client, 2 * len(letters[0])).count(b'"nonce":"1"') == 2
            links.cut("web-1")
            assert far.recv(10) == b""
            far.close()


def read(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        data = sock.recv(count - len(found))
        assert data
        found += data
    return found


@pytest.mark.parametrize(("word", "status", "rows", "said", "verdict"), [
    ("scale", 0, [{"host": "b", "workers": 2}], "", "done"),
    ("scale", 75, [], "host b: no answer in time: it, its console is gone", "unknown"),
    ("restart", 75, [], "host b: what it was asked never came there; nothing was begun", "nothing"),
    ("bump", 1, [], "host b: no", "failed"),
    ("bump", 75, [{"host": "b", "value": "t"}], "host c: no answer in time", "done"),
    ("bump", 255, [], "", "unknown"),
    ("--fleet", 1, [{"host": "b", "outcome": "unknown"}], "", "unknown"),
    ("--fleet", 1, [{"host": "b", "outcome": "not reached"}], "", "nothing"),
    ("--fleet", 1, [{"host": "b", "outcome": "failed", "error": "reloaded, and not well: x"}], "",
     "done"),
    ("--fleet", 255, [], "", "unknown"),
])
def test_what_a_shell_has_said_of_a_host(
    load: Any, word: str, status: int, rows: list[dict[str, Any]], said: str, verdict: str
) -> None:
    deed = load("letters_hosts").Deed("ann", "a", (word,), ("b",), 1.0, status, rows, said)
    assert deed.verdict("b") == verdict
