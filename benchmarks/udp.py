"""Datagrams: how many two workers answer by how they share a socket; what batches would bring.

How to run (a minute)::

    .venv/bin/python benchmarks/udp.py [--seconds 3] [--rounds 3]

- ``workers``: two workers answer what eight clients send, each with sixteen under way: on one
  shared socket, with ``?reuse_port`` and with ``?sticky``; the answers in a second, and how many
  clients met one worker only;
- ``reading``: one process that reads what is there, in microseconds of CPU a datagram: by
  asyncio, uvloop, ``recvfrom()`` in a loop, and recvmmsg(2) through ctypes, 32 at a time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import socket
import statistics
import sys
import threading
import time
from collections import defaultdict

from _bench import HERE, interpreter

from apihour.testing import Daemon

LOAD = HERE / "load"
CLIENTS, AHEAD = 8, 16
WAIT_FOR_ONE = 0x10000  # MSG_WAITFORONE of recvmmsg(2)
FILL, BATCH, SIZE = 200, 32, 64  # datagrams that wait, of one call, and bytes of each


def say(what: str, value: str) -> None:
    print(f"{what:52} {value}", flush=True)


# -- two workers ---------------------------------------------------------------------------------


class Client(threading.Thread):
    def __init__(self, port: int, number: int, until: float) -> None:
        super().__init__()
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind((f"127.0.1.{number + 1}", 0))
        self.sock.connect(("127.0.0.1", port))
        self.sock.settimeout(1)
        self.until = until
        self.answers, self.pids = 0, set[bytes]()

    def run(self) -> None:
        with contextlib.closing(self.sock):
            for _ in range(AHEAD):
                self.sock.send(b"x" * SIZE)
            while time.monotonic() < self.until:
                with contextlib.suppress(TimeoutError):
                    self.pids.add(self.sock.recv(100))
                    self.answers += 1
                self.sock.send(b"x" * SIZE)


def workers(seconds: float, rounds: int) -> None:
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for _ in range(rounds):
        for option in ("", "?reuse_port", "?sticky"):
            with Daemon("udp_app:Container", "-b", f"udp=udp://127.0.0.1:0{option}", cwd=LOAD,
                        timeout=60) as daemon:
                until = time.monotonic() + seconds
                clients = [Client(daemon.port("udp"), number, until) for number in range(CLIENTS)]
                for one in clients:
                    one.start()
                for one in clients:
                    one.join()
                found[option].append((sum(one.answers for one in clients) / seconds,
                                      sum(len(one.pids) == 1 for one in clients)))
    for option, results in found.items():
        say(f"two workers, {option or 'one socket for both'}",
            f"{statistics.median(rate for rate, _ in results):,.0f} answers/s, "
            f"{min(alone for _, alone in results)} of {CLIENTS} clients at one worker")


# -- one process ---------------------------------------------------------------------------------


class Counted(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.left, self.done = FILL, asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, address: object) -> None:
        self.left -= 1
        if not self.left:
            self.done.set_result(None)


async def by_the_loop(sock: socket.socket) -> float:
    began = time.process_time()
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Counted, sock=sock.dup())
    await asyncio.wait_for(protocol.done, 10)
    took = time.process_time() - began
    transport.close()
    await asyncio.sleep(0)
    return took


def by_hand(sock: socket.socket) -> float:
    began = time.process_time()
    for _ in range(FILL):
        sock.recvfrom(65536)
    return time.process_time() - began


class Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class One(ctypes.Structure):
    """struct msghdr of recvmsg(2)."""

    _fields_ = (
        ("name", ctypes.c_void_p), ("namelen", ctypes.c_uint32),
        ("iov", ctypes.POINTER(Vector)), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t), ("flags", ctypes.c_int))


class Header(ctypes.Structure):
    """struct mmsghdr of recvmmsg(2)."""

    _fields_ = (("one", One), ("length", ctypes.c_uint))


def by_batches(sock: socket.socket) -> float:
    libc = ctypes.CDLL(None, use_errno=True)
    room = [ctypes.create_string_buffer(2048) for _ in range(BATCH)]
    names = [ctypes.create_string_buffer(28) for _ in range(BATCH)]
    vectors = [Vector(ctypes.addressof(one), 2048) for one in room]
    headers = (Header * BATCH)(*(
        Header(One(ctypes.addressof(name), 28, ctypes.pointer(vector), 1))
        for name, vector in zip(names, vectors, strict=True)))
    left, began = FILL, time.process_time()
    while left:
        got = libc.recvmmsg(sock.fileno(), headers, BATCH, WAIT_FOR_ONE, None)
        if got <= 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        for one in range(got):  # what a protocol is given: bytes, and a tuple
            name = names[one].raw
            room[one].raw[:headers[one].length]
            (socket.inet_ntoa(name[4:8]), int.from_bytes(name[2:4], "big"))
        left -= got
    return time.process_time() - began


def reading(rounds: int) -> None:
    import uvloop

    ways = {
        "asyncio": lambda sock: asyncio.run(by_the_loop(sock)),
        "uvloop": lambda sock: uvloop.run(by_the_loop(sock)),
        "recvfrom() in a loop": by_hand,
        f"recvmmsg(2) by ctypes, {BATCH} at a time": by_batches,
    }
    found: dict[str, list[float]] = defaultdict(list)
    for _ in range(20 * rounds):
        for name, way in ways.items():
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, socket.socket(
                    socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sock.bind(("127.0.0.1", 0))
                for _ in range(FILL):
                    sender.sendto(b"x" * SIZE, sock.getsockname())
                found[name].append(way(sock) / FILL * 1e6)
    for name, times in found.items():
        say(f"reading, {name}", f"{statistics.median(times):.1f} us of CPU a datagram")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    reading(given.rounds)
    workers(given.seconds, given.rounds)
    print(interpreter())
    return 0


if __name__ == "__main__":
    sys.exit(main())
