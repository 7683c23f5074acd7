"""What the daemon tells the service manager that started it, by sd_notify(3): systemd, mostly.

Rules:

- Each reload is told when it is asked for and when it is over, refused ones too: whoever runs
  ``systemctl reload`` waits for both (``Type=notify-reload``, systemd.service(5)).
- A sign of life (``WatchdogSec=``) is given by the turns of the arbiter's loop, by nothing else.
- Nothing waits for a service manager that does not read: what it has no room for is told in one
  of the next turns.
"""

from __future__ import annotations

import collections
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from apihour.books.part import ArbiterPart
from apihour.errors import one_line

__all__ = ["ServiceManager"]

_KEPT = 20  # messages for one that does not read; of more the latest count


class ServiceManager(ArbiterPart):
    """The service manager of one arbiter."""

    def __init__(
        self, log: Any, environment: Mapping[str, str], pid: int, took_over: bool = False
    ) -> None:
        """`took_over`: this arbiter follows another, which the service manager had started."""
        self._log = log
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._unsent: collections.deque[bytes] = collections.deque(maxlen=_KEPT)
        self._every = _watchdog(environment, None if took_over else pid)
        self._next = 0.0

    def tell(self, *lines: str) -> None:
        """Tell it `lines`, each an assignment."""
        self._unsent.append("\n".join(map(one_line, lines)).encode())
        self._flush()

    def watched(self) -> Mapping[int, Callable[[], None]]:
        """The loop turns, also while the daemon stops: say so as often as was asked for."""
        if self._unsent:
            self._flush()
        elif self._every and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every
            self.tell("WATCHDOG=1")
        return {}

    def _flush(self) -> None:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.connect(self._address)
                while self._unsent:
                    sock.send(self._unsent[0])
                    self._unsent.popleft()
        except BlockingIOError:
            return
        except OSError as error:
            self._log.debug("NOTIFY_SOCKET %r: %s", self._address, error)
            self._unsent.clear()


def _watchdog(environment: Mapping[str, str], pid: int | None) -> float:
    """Seconds between two signs of life, a third of what is allowed; 0: nobody waits for one.

    It is meant for the process of `pid`, if any is named (sd_watchdog_enabled(3)).
    """
    allowed = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", "")
    if not allowed.isdecimal() or (pid is not None and meant not in ("", str(pid))):
        return 0.0
    return int(allowed) / 3_000_000
