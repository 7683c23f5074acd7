"""What is a misspelt setting in a configuration file, and what is the user's own name."""

from __future__ import annotations

import pytest

from apihour.config.misspelt import find_misspelt
from apihour.config.settings import HostConfig


@pytest.mark.parametrize(("text", "found"), [
    ("timout = 3", ("timout", 1, "timeout")),
    ("timeout = 3\nlog_level = 'debug'", ("log_level", 2, "loglevel")),
    ("binds = ['echo=:1']", ("binds", 1, "bind")),
    ("keep_alive: float = 5", ("keep_alive", 1, "keepalive")),
    ("error_logfile = 'x'", ("error_logfile", 1, "errorlog")),
    ("Workers = 3", ("Workers", 1, "workers")),
    ("if True:\n    worker = 4", ("worker", 2, "workers")),
    ("try:\n    import x\nexcept ImportError:\n    worker = 4", ("worker", 4, "workers")),
    ("def when_redy(server): pass", ("when_redy", 1, "when_ready")),
])
def test_a_name_without_another_use(text: str, found: tuple[str, int, str]) -> None:
    assert find_misspelt(text, HostConfig().settings) == found


@pytest.mark.parametrize("text", [
    "timeout = 3", "worker = 4\nworkers = worker * 2", "_timout = 3",
    "import multiprocessing\nworkers = multiprocessing.cpu_count()",
    "from os import getpid as worker\nimport time as timout",
    "port = 80\nhost = 'x'\nname_of_it = 'y'\npath = '/'\napp = 'shop'\nsecret = 1",
    "def worker(): return 4\nworkers = worker()", "class Timeout: pass",
    "def helper():\n    timout = 3\n    return timout\ntimeout = helper()",
    "@register\ndef when_redy(server): pass",
    "for timout in (1, 2): pass",
    "def on_starting(server):\n    print(timout)\ntimout = 5",
])
def test_names_that_have_one(text: str) -> None:
    assert find_misspelt(text, HostConfig().settings) is None
