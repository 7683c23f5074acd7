"""What an operator does at the shell: OpenSSH in a pseudo-terminal, for ``benchmarks/shell.py``.

Every activity runs until it is told to end, and then says what it has seen; nothing seen of
what it must see is an error: a benchmark of a shell that did not answer shows nothing.
"""

from __future__ import annotations

import os
import pty
import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from _bench import LOAD_CPU, pinned

PASTE = 100_000  # bytes
_LINES = ("workers --sort lag", "conns --limit 20", "servers", "help", "log gunicorn.error")
_KEY_TIME = 0.06  # seconds between two keys; a fast typist's
_TIMEOUT = 20.0


class Terminal:
    """``ssh -tt`` in a pseudo-terminal; what it shows is read all the time."""

    def __init__(self, ssh: Sequence[str], *words: str) -> None:
        master, slave = pty.openpty()
        os.set_blocking(master, True)
        self.process = subprocess.Popen(
            [*pinned(LOAD_CPU), *ssh, *words], stdin=slave, stdout=slave,
            stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(slave)
        self._master = master
        self.shown = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            if not data:
                return
            self.shown += data

    def type(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._master, data[:4096]):]

    def wait(self, text: bytes, since: int = 0) -> None:
        """Wait until `text` is shown. Raises RuntimeError with what is."""
        limit = time.monotonic() + _TIMEOUT
        while text not in self.shown[since:]:
            if time.monotonic() > limit or self.process.poll() is not None:
                raise RuntimeError(f"the shell does not show {text!r}: "
                                   f"{bytes(self.shown[-2000:])!r}")
            time.sleep(0.02)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self._reader.join(10)
        os.close(self._master)


class Activity(threading.Thread):
    """One of the functions below in a thread; :meth:`finish` returns how often it was done."""

    def __init__(
        self, work: Callable[[Sequence[str], threading.Event], int], ssh: Sequence[str]
    ) -> None:
        super().__init__(daemon=True)
        self._work, self._ssh = work, ssh
        self._ending = threading.Event()
        self._done = 0
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._done = self._work(self._ssh, self._ending)
        except BaseException as error:  # shown by finish(), in the thread that waits
            self._error = error

    def finish(self) -> int:
        self._ending.set()
        self.join(60)
        if self._error is not None:
            raise self._error
        if not self._done:
            raise RuntimeError(f"{self._work.__name__}: nothing was done in the whole time")
        return self._done


def typing(ssh: Sequence[str], ending: threading.Event) -> int:
    """Commands key by key, with completion; returns how many."""
    terminal = Terminal(ssh)
    done = 0
    try:
        terminal.wait(b"is admin")
        while not ending.is_set():
            since = len(terminal.shown)
            line = _LINES[done % len(_LINES)]
            for index, key in enumerate(line):
                terminal.type(key.encode() + (b"\t" if index == 2 else b""))
                if ending.wait(_KEY_TIME):
                    return done
            terminal.type(b"\r")
            terminal.wait(b"\n", since)
            done += 1
    finally:
        terminal.close()
    return done


def top(ssh: Sequence[str], ending: threading.Event) -> int:
    """The full screen, with a key now and then; returns how many keys."""
    terminal = Terminal(ssh)
    done = 0
    try:
        terminal.wait(b"is admin")
        terminal.type(b"top\r")
        terminal.wait(b"serving")
        while not ending.wait(0.5):
            terminal.type(b"j" if done % 2 else b"k")
            done += 1
        terminal.type(b"q")
    finally:
        terminal.close()
    return done


def profile(ssh: Sequence[str], ending: threading.Event) -> int:
    """``profile cpu -s 2`` again and again; returns how often."""
    done = 0
    while not ending.is_set():
        result = subprocess.run(
            [*pinned(LOAD_CPU), *ssh, "profile", "cpu", "-s", "2"], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=60,
        )
        if result.returncode:
            raise RuntimeError(f"profile: status {result.returncode}: {result.stderr}")
        done += 1
    return done


def paste(ssh: Sequence[str], ending: threading.Event) -> int:
    """100 kB in one bracketed paste, thrown away, each second; returns how often."""
    terminal = Terminal(ssh)
    done = 0
    try:
        terminal.wait(b"is admin")
        while not ending.is_set():
            terminal.type(b"\x1b[200~" + b"conns " * (PASTE // 6) + b"\x1b[201~")
            since = len(terminal.shown)
            terminal.type(b"\x03")
            terminal.type(b"version\r")
            terminal.wait(b"apihour", since)
            done += 1
            ending.wait(1.0)
    finally:
        terminal.close()
    return done


ACTIVITIES: dict[str, Callable[[Sequence[str], threading.Event], int]] = {
    "typing": typing, "top": top, "profile": profile, "pasting 100 kB": paste,
}
