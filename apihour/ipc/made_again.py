"""What has vanished under those who use it: runtime directory and scoreboard, made again.

Rule: read where one has vanished.
"""

from __future__ import annotations

import mmap
import os

from apihour.ipc.holds import lock_alone, make_locked
from apihour.ipc.runtime import Runtime, make_base
from apihour.ipc.scoreboard import FIELDS, BoardRow, Scoreboard, make_file, map_file

__all__ = ["follow_board", "make_board", "make_runtime"]


def make_runtime(runtime: Runtime, owner: tuple[int, int]) -> bool:
    """Make the directory anew at its own place; False when only its lock had vanished.

    Raises OSError, ConfigurationError; BlockingIOError when another daemon has the place.
    """
    if os.path.lexists(runtime.path):
        try:
            lock = lock_alone(runtime.lock)
        except FileNotFoundError:
            runtime.hold(make_locked(runtime.lock, owner, shared=True))
            return False
        except BlockingIOError as error:
            raise BlockingIOError(error.errno, "another daemon has taken its place") from error
        runtime.remove()  # what a daemon that is gone has left there
        os.close(lock)
    if not runtime.path.parent.is_dir():
        make_base(*owner)
    runtime.make(owner, fixed=True)
    return True


def make_board(board: Scoreboard, path: str, owner: tuple[int, int]) -> None:
    """In the arbiter: go on in a new file that says what this one does. Raises OSError."""
    before = board.cells
    lock = make_file(path, owner)
    board.let_go()
    board.lock = lock
    _remap(board, map_file(path))
    board.cells[:] = before


def follow_board(board: Scoreboard, path: str, own: BoardRow) -> None:
    """In a worker: go on in the file that the arbiter has made; its row is right here."""
    before = board.cells[own.base : own.base + FIELDS]
    _remap(board, map_file(path))
    board.cells[own.base : own.base + FIELDS] = before


def _remap(board: Scoreboard, mapped: mmap.mmap) -> None:
    # The map before stays for as long as another thread may be reading a row in it.
    board.map = mapped
    board.cells = memoryview(board.map).cast("d")
    for row in board.rows:
        row.cells = board.cells
