"""Ports that tests name before they are bound."""

import os
import socket
import subprocess
import sys

import pytest

from tests.ports import free_port, listeners_on


def test_none_is_given_twice_and_a_server_may_have_it():
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(("127.0.0.1", port))  # as another call does, in whatever process
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert listeners_on(port) == {}
    with socket.create_server(("127.0.0.1", port)):
        assert [*listeners_on(port)] == [os.getpid()]
    assert listeners_on(port) == {}


def test_who_listens_is_named_in_another_process_too():
    port = free_port()
    source = (f"import socket; held = socket.create_server(('127.0.0.1', {port})); "
              "print(flush=True); input()")
    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        found = listeners_on(port)
        process.communicate(b"\n")
    assert found.keys() == {process.pid}
    assert found[process.pid] == f"{sys.executable} -c {source}"
