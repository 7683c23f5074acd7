"""The arbiter looks after the runtime directory: what vanished from it is made again.

Rules:

- Somebody may remove it, or a file of it, under a living daemon (a cleaner of temporary
  files, an operator, another container that shares the file system). Nothing that serves
  stops for that; shell and ``apihour ctl`` come back by themselves within seconds.
- Each process makes again what is its own: here the directory, its lock, the scoreboard, the
  control socket and the instance file; agents and console do the same with theirs.
- It is said once, and so is a failure to mend it; the values of ``container.shared`` are lost
  with the directory.
- Only the arbiter that owns the daemon makes the directory; one that is still taking over
  follows.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from apihour.arbiter.control import Control
from apihour.errors import ConfigurationError

if TYPE_CHECKING:
    from apihour.arbiter.arbiter import HostArbiter

__all__ = ["RuntimeGuard"]

_LOOK_EVERY = 1.0  # seconds between two looks; one costs four calls of stat(2)


class RuntimeGuard:
    """What one arbiter does about the directory of its daemon."""

    def __init__(self, arbiter: HostArbiter) -> None:
        self.arbiter = arbiter
        self.is_intact = True
        self._failure = ""
        self._next_look = 0.0

    def look(self) -> None:
        """Once a second: see whether everything is there, and make it again if not."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _LOOK_EVERY
        try:
            self._mend()
        except (OSError, ConfigurationError) as error:
            self._say_failure(str(error))
        else:
            self.is_intact = True
            self._failure = ""

    def _mend(self) -> None:
        arbiter = self.arbiter
        path = str(arbiter.runtime.scoreboard(arbiter.pid))
        if not arbiter.runtime.is_intact():
            self._mend_directory()
        if not arbiter.scoreboard.is_at(path):
            arbiter.scoreboard.make_again(path, self._owner)
            for worker in [*arbiter.WORKERS.values(), *arbiter.retiring.values()]:
                if worker.channel_open:
                    worker.channel.send(command="follow", scoreboard=path)
        if arbiter.control is not None:
            self._mend_control(arbiter.control)

    @property
    def _owner(self) -> tuple[int, int]:
        return self.arbiter.cfg.uid, self.arbiter.cfg.gid

    def _mend_directory(self) -> None:
        self.is_intact = False
        arbiter = self.arbiter
        if not arbiter.is_the_one():
            arbiter.runtime.join()
            return
        if arbiter.runtime.make_again(self._owner):
            arbiter.log.error(
                "Runtime directory %s had vanished; made it again, what container.shared held "
                "is lost", arbiter.runtime.path)

    def _mend_control(self, control: Control) -> None:
        arbiter = self.arbiter
        if not control.is_there():
            control.listen_again()
        if not os.path.lexists(arbiter.runtime.instance_file):
            arbiter.write_instance()

    def _say_failure(self, failure: str) -> None:
        if failure != self._failure:
            self._failure = failure
            self.arbiter.log.error(
                "Runtime directory %s has vanished and cannot be made again: %s; without it "
                "there is no shell, no ctl and no container.shared; trying on",
                self.arbiter.runtime.path, failure)
