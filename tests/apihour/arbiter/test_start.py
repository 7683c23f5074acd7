"""The arbiter's start: what it is told while it starts is obeyed."""

import signal
import threading
from types import SimpleNamespace

import pytest

from apihour.arbiter.start import Start, _give_up


class Templates:
    """Forks nothing; a stop comes in the midst of it, where Python swallows what is raised."""

    def __init__(self):
        self.killed, self.masked = False, False

    def start_probe(self):
        # To this thread: a runner's other threads block nothing.
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        self.masked = signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return SimpleNamespace(kill=self.kill)

    def kill(self):
        self.killed = True


def test_a_stop_within_the_probes_fork_ends_the_start_and_the_probe():
    templates = Templates()
    start = Start(SimpleNamespace(), None, None, None, templates)
    before = signal.signal(signal.SIGTERM, _give_up)
    try:
        with pytest.raises(SystemExit):
            start._learn_binds()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert templates.masked and templates.killed
