"""Processes of tests by pid: which stand, and which have ended."""

import signal
import subprocess
import sys
import time

from apihour.testing.processes import is_running, stands

THREADS = """
import threading
for _ in range(3):
    threading.Thread(target=threading.Event().wait).start()
print(flush=True)
"""


def wait(condition):
    """Return when it is true."""
    ends = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_one_stands_when_each_of_its_threads_is_stopped():
    with subprocess.Popen([sys.executable, "-c", THREADS], stdout=subprocess.PIPE) as child:
        try:
            child.stdout.readline()
            assert not stands(child.pid)
            child.send_signal(signal.SIGSTOP)
            wait(lambda: stands(child.pid))
            assert is_running(child.pid)
            child.send_signal(signal.SIGCONT)
            wait(lambda: not stands(child.pid))
        finally:
            child.kill()
    assert stands(child.pid) and not is_running(child.pid)
