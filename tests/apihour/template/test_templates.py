"""Orders for workers: how they travel, and what happens when nobody answers."""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from apihour.bind.addresses import parse_address
from apihour.bind.listeners import Listener
from apihour.errors import ConfigurationError
from apihour.ipc.channel import Channel
from apihour.template import process, template_probe, templates

PID = struct.Struct("=q")


@pytest.fixture
def line() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The arbiter's end and the template's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    theirs.settimeout(10)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def channel() -> Iterator[Channel]:
    mine, other = Channel.pair()
    yield mine
    mine.close()
    other.close()


def listener(number: int) -> Listener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    return Listener(f"name{number}", parse_address("127.0.0.1:0?reuse_port"), sock, False, number)


def answer(theirs: socket.socket, value: int) -> tuple[threading.Thread, list[object]]:
    """Take one order as the template does, reply `value`, note the order and the hold's end."""
    seen: list[object] = []

    def work() -> None:
        order = process._receive(theirs)
        assert order is not None
        facts, fds = order
        theirs.send(PID.pack(value))
        seen.extend([facts, [os.fstat(fd).st_ino for fd in fds[1:]], os.read(fds[0], 1)])
        for fd in fds:
            os.close(fd)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, seen


def test_an_order_brings_its_descriptors_in_as_many_packets_as_it_takes(
    line: tuple[socket.socket, socket.socket], channel: Channel
) -> None:
    ours, theirs = line
    listeners = [listener(number) for number in range(150)]
    thread, seen = answer(theirs, 4711)
    assert templates._Template(1, ours).fork({"slot": 3}, channel, listeners) == 4711
    thread.join(10)
    facts, inodes, released = seen
    assert isinstance(facts, dict)
    assert facts["slot"] == 3
    assert facts["listeners"][149] == {
        "name": "name149", "address": "127.0.0.1:0?reuse_port", "owns_path": False, "slot": 149}
    assert len(facts["listeners"]) == 150
    assert inodes == [os.fstat(fd).st_ino for fd in (channel.fileno(),
                                                     *(x.fileno() for x in listeners))]
    assert released == b"g"
    for each in listeners:
        each.close()


def test_received_descriptors_are_close_on_exec(
    line: tuple[socket.socket, socket.socket], channel: Channel
) -> None:
    ours, theirs = line
    reading, writing = os.pipe()
    templates._Template(1, ours)._send({}, [reading, channel.fileno()], [])
    order = process._receive(theirs)
    assert order is not None
    assert [os.get_inheritable(fd) for fd in order[1]] == [False, False]
    for fd in (reading, writing, *order[1]):
        os.close(fd)


def test_no_room_for_a_process_is_an_oserror(
    line: tuple[socket.socket, socket.socket], channel: Channel
) -> None:
    ours, theirs = line
    thread, seen = answer(theirs, -errno.EAGAIN)
    with pytest.raises(OSError, match="temporarily unavailable") as caught:
        templates._Template(1, ours).fork({}, channel, [])
    assert caught.value.errno == errno.EAGAIN
    thread.join(10)
    assert seen[2] == b""  # nobody is let go


def test_silence_ends_in_time_and_what_was_forked_is_not_let_go(
    line: tuple[socket.socket, socket.socket], channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "_PATIENCE", 0.05)
    ours, theirs = line
    with pytest.raises(templates._SilentError, match="did not answer"):
        templates._Template(1, ours).fork({}, channel, [])
    order = process._receive(theirs)
    assert order is not None
    assert os.read(order[1][0], 1) == b""
    for fd in order[1]:
        os.close(fd)


def test_a_template_that_is_gone_is_silent(
    line: tuple[socket.socket, socket.socket], channel: Channel
) -> None:
    ours, theirs = line
    theirs.close()
    with pytest.raises(templates._SilentError):
        templates._Template(1, ours).fork({}, channel, [])


def test_the_arbiters_end_ends_the_template(line: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = line
    ours.close()
    assert process._receive(theirs) is None


def test_a_grandchild_runs_and_its_pid_is_told() -> None:
    reading, writing = os.pipe()
    end_reading, end_writing = os.pipe()

    def run() -> None:
        os.write(writing, json.dumps([os.getpid(), os.getppid()]).encode())
        os.read(end_reading, 1)
        os._exit(0)

    pid = process._fork_twice(run)
    seen, parent = json.loads(os.read(reading, 100))
    assert seen == pid
    assert parent != os.getpid()
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, 0)
    os.write(end_writing, b"x")
    for fd in (reading, writing, end_reading, end_writing):
        os.close(fd)


def test_a_fork_that_fails_is_minus_its_errno(monkeypatch: pytest.MonkeyPatch) -> None:
    def fork() -> int:
        raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(os, "fork", fork)
    assert process._fork_twice(lambda: None) == -errno.ENOMEM


def test_elsewhere_it_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    with pytest.raises(ConfigurationError, match="--template: refused on 'darwin'"):
        template_probe.refuse_elsewhere()
