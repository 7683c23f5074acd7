"""The end of a child: told to go once more while it goes, it goes as it was told first."""

import os
import signal
from types import SimpleNamespace

import pytest

from apihour.books import becoming
from apihour.ipc.signals import EarlyExit


class Worker:
    """One that was told to go before it had a loop."""

    name, sockets, cfg = "1.1", (), None

    def __init__(self, *given):
        pass

    def init_process(self):
        signal.signal(signal.SIGTERM, told)
        raise EarlyExit(0)


def told(sig, frame):
    raise EarlyExit(0)


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_second_stop_does_not_cut_the_hook_of_the_end_short(sig, monkeypatch):
    reading, writing = os.pipe()

    def say(text):
        os.write(writing, text.encode() + b"\n")

    def hook(cfg, name, worker):
        os.kill(os.getpid(), sig)
        say(name)

    monkeypatch.setattr(becoming, "HostWorker", Worker)
    books = SimpleNamespace(
        app=None, cfg=None, listeners=(), hooks=SimpleNamespace(
            call=hook, demand=lambda *given: None),
        log=SimpleNamespace(exception=lambda text, *given: say(text),
                            debug=lambda *given: None))
    pid = os.fork()
    if pid == 0:
        becoming.become_worker(books, None, None)
    os.close(writing)
    with os.fdopen(reading) as file:
        assert file.read() == "worker_exit\n"
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
