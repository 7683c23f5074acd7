"""Answers that last, with real clients, on two workers, through reloads under load."""

import asyncio
import socket
import subprocess

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from apihour.testing import Load
from tests.system.support import get


@pytest.fixture(scope="module")
def house(apihour_module_daemon, system_apps):
    return apihour_module_daemon("live:Container", "--graceful-timeout", "60", "--linger", "2",
                                 cwd=system_apps, workers=2)


def curl(house, path, *options):
    return subprocess.Popen(
        ["curl", "-sSN", "-m", "60", *options, f"http://{house.address('http')}{path}"],
        stdout=subprocess.PIPE, text=True)


def test_through_a_reload_nothing_is_lost_and_everybody_hears_goodbye(house):
    with Load("keep-alive", house.address("http"), connections=4, think=0.01) as load:
        feeds = [curl(house, "/events") for _ in range(2)]
        download = curl(house, "/download")
        assert download.stdout.readline() == "0\n"
        for feed in feeds:
            assert feed.stdout.readline() == "id: 0\n"
        load.wait_answers(50)
        assert house.reload().ok
        for feed in feeds:
            said = feed.communicate(timeout=60)[0]
            assert said.endswith("event: restart\nretry: 50\ndata: soon\n\n")
            assert feed.returncode == 0  # the last chunk came
        rest = download.communicate(timeout=60)[0]
        assert download.returncode == 0
        assert rest.split() == [str(number) for number in range(1, 100)]
        load.wait_answers(50)
    assert load.report.lost == 0, load.report
    house.wait(lambda: len(house.workers()) == 2, "the end of the old ones", timeout=60)


async def test_websockets_of_two_clients_come_back_to_the_new_workers(house):
    url = f"ws://{house.address('http')}/ws"
    async with connect(url) as one, connect(url) as other:
        before = set()
        for peer in (one, other):
            await peer.send("hello")
            pid, _, message = (await asyncio.wait_for(peer.recv(), 30)).partition(" ")
            assert message == "hello"
            before.add(int(pid))
        assert before <= {worker.pid for worker in house.workers()}
        reload = asyncio.create_task(asyncio.to_thread(house.reload))
        for peer in (one, other):
            with pytest.raises(ConnectionClosed) as ended:
                await asyncio.wait_for(peer.recv(), 60)
            assert ended.value.rcvd.code == 1012
        assert (await reload).ok
    async with connect(url) as again:
        await again.send("back")
        pid, _, message = (await asyncio.wait_for(again.recv(), 30)).partition(" ")
        assert message == "back" and int(pid) not in before


def test_work_after_an_answer_is_done_before_its_worker_leaves(house):
    with house.connect("http") as sock:
        sock.sendall(b"POST /after HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        assert b'{"accepted":true}' in sock.recv(65536)
    house.wait(lambda: get(house, "/counters")["after-begun"] == 1, "its begin")
    pids = {worker.pid for worker in house.workers()}
    assert house.reload().ok
    house.wait(lambda: not pids & {worker.pid for worker in house.workers()}, "their end",
               timeout=60)
    assert get(house, "/counters")["after-done"] == 1


def test_a_client_that_leaves_ends_its_feed(house):
    ended = get(house, "/counters")["events-ended"]
    feed = curl(house, "/events")
    assert feed.stdout.readline() == "id: 0\n"
    feed.kill()
    feed.communicate()
    house.wait(lambda: get(house, "/counters")["events-ended"] == ended + 1, "its end", timeout=30)


def test_a_client_that_closes_its_side_gets_the_rest(house):
    with house.connect("http") as sock:
        sock.sendall(b"GET /download?count=20 HTTP/1.1\r\nHost: x\r\n\r\n")
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(30)
        data = b""
        while chunk := sock.recv(65536):
            data += chunk
    assert data.endswith(b"3\r\n19\n\r\n0\r\n\r\n")


def test_a_client_that_never_reads_costs_a_buffer_and_is_cut_off(house):
    with house.connect("http") as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        house.wait(lambda: get(house, "/counters")["flood-ended"] == 1, "its end", timeout=30)
        assert get(house)["pid"]


def test_middlewares_see_it_by_http_1_0_too(house):
    done = curl(house, "/download?count=3", "-0", "-i").communicate(timeout=60)[0]
    assert done.endswith("\n0\n1\n2\n") and "X-Worker: " in done and "chunked" not in done
