"""An application that forks when it is imported: nothing of ours runs twice, or stays."""

import pytest

from tests.system.support import deploy, get

FORKS = {
    "runs on": "import os\nos.fork()\n",
    "runs on late": "import os, time\nif not os.fork():\n    time.sleep(0.5)\n",
    "exits": "import os, sys\nif not os.fork():\n    sys.exit(0)\n",
    "raises": "import os\nif not os.fork():\n    1 / 0\n",
    "ends": "import os\nif not os.fork():\n    os._exit(0)\n",
}


@pytest.mark.parametrize("options", [(), ("--template",)], ids=["plain", "template"])
@pytest.mark.parametrize("fork", FORKS)
def test_a_fork_during_import(apihour_daemon, app, fork, options):
    deploy(app, None, text=FORKS[fork] + "VERSION = '1'\n")
    daemon = apihour_daemon("house:Container", *options, cwd=app, console=True)
    daemon.wait(lambda: daemon.runtime.console_socket.exists(), "the console")
    assert daemon.reload().ok
    for worker in daemon.workers("serving"):
        daemon.kill(worker)
    daemon.wait_ready()
    assert get(daemon)["version"] == "1"
    expected = 1 + 2 + 1 + bool(options)
    daemon.wait(lambda: len(daemon.processes()) == expected, f"{expected} processes")
    assert daemon.terminate() == 0  # waits until no process is left
    assert "Exception in the template" not in daemon.log
    assert fork == "ends" or "a process that it forked ran on" in daemon.log
