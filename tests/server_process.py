"""A server of another program, in a directory of its own: started, frozen, killed, ended."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from tests.postgres import _die_with_parent


class ServerProcess:
    """What servers have in common; who inherits says the command, and how it is seen to listen."""

    ready = 60.0
    """Seconds in which it has to listen."""

    def __init__(self, name):
        # Short: it is part of the path of a unix socket.
        self.directory = Path(tempfile.mkdtemp(prefix=f"apihour-{name}-"))
        self.process = None
        self.user = {}
        """Who it runs as, for Popen."""

    def command(self):
        """Its words."""
        raise NotImplementedError

    def listens(self):
        """Whether it takes connections."""
        raise NotImplementedError

    def start(self):
        """Start it; returns once it listens."""
        words = [str(word) for word in self.command()]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                words, cwd="/", stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_die_with_parent, **self.user)
        ends = time.monotonic() + self.ready
        while not self.listens():
            assert self.process.poll() is None and time.monotonic() < ends, (
                self.directory / "log").read_text()
            time.sleep(0.02)
        return self

    def freeze(self):
        """Stop it by SIGSTOP; returns once all its threads stand."""
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)

    def thaw(self):
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def halt(self, sig=signal.SIGTERM):
        """Stop it; its data stay."""
        if self.process is not None:
            self.process.send_signal(sig)
            self.process.wait()
            self.process = None

    def stop(self):
        """Stop it for good."""
        self.halt(signal.SIGKILL)
        shutil.rmtree(self.directory, ignore_errors=True)
