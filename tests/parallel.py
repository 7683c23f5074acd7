"""How the suite runs in several processes at once (``pytest -n``): order, shares, and who waits.

- The quick half first; then what starts daemons, modules that share one before the others, so
  that no long one is left to the end; tests marked ``alone`` last.
- A module is one share of the work where its tests share a fixture or are quick; else each
  test is one.
- A test marked ``alone`` waits until no other runs, and the others wait for it.
"""

from __future__ import annotations

import contextlib
import fcntl
import time
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
LONGEST = 900.0  # seconds
SLOW = ("tests/system/", "tests/examples/", "tests/docs/test_sessions",
        "tests/docs/test_proxies")  # these start daemons


@cache
def is_shared(module: str) -> bool:
    """Whether the tests of a module share what only one process of the suite should start."""
    return 'scope="module"' in (ROOT / module).read_text()


def share_of(nodeid: str) -> str:
    """The share of the work that a test belongs to."""
    module = nodeid.partition("::")[0]
    return nodeid if module.startswith(SLOW) and not is_shared(module) else module


def order(items) -> None:
    """Sort collected tests as they are to be begun."""
    def key(item):
        module = item.nodeid.partition("::")[0]
        slow = module.startswith(SLOW)
        return item.get_closest_marker("alone") is not None, slow, slow and not is_shared(module)

    items.sort(key=key)


def make_scheduler(config, log):
    """What hands out the shares, in the order of the tests."""
    from xdist.scheduler import LoadScopeScheduling  # only where -n was said, so installed

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return share_of(nodeid)

    config.option.loadscopereorder = False
    return Scheduling(config, log)


@contextlib.contextmanager
def among_others(directory: Path, alone: bool):
    """Enter the room where each test of a run is while it runs; `alone`: once it is empty.

    The room and its door are locked files in the run's directory: who is killed has left, and
    what a test forked and left behind does not stay in it. The door stays locked while one waits
    to be alone, so that nobody else enters meanwhile.
    """
    how = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with open(directory / "door", "w") as door, open(directory / "room", "w") as room:
        try:
            _lock(door, how)
            _lock(room, how)
            fcntl.flock(door, fcntl.LOCK_UN)
            yield
        finally:
            fcntl.flock(room, fcntl.LOCK_UN)
            fcntl.flock(door, fcntl.LOCK_UN)


def _lock(file, how: int) -> None:
    """Lock it, or fail after what no test may take: a run that hangs says nothing."""
    ends = time.monotonic() + LONGEST
    while True:
        try:
            return fcntl.flock(file, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends:
                raise TimeoutError(f"{file.name}: still locked after {LONGEST} s") from None
            time.sleep(0.005)
