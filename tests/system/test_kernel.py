"""What a plain daemon loads: the kernel of ``.ci/sizes``, and nothing for many machines."""

import json
import runpy
from pathlib import Path

from tests.system.shell_support import ctl
from tests.system.support import echo

ROOT = Path(__file__).resolve().parents[2]

APP = """
import apihour
from tell import tell


async def answer(reader, writer):
    writer.write(await reader.readline())
    writer.close()


class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:0"}

    def make_servers(self):
        return {"echo": answer}

    def cleanup(self):
        tell("worker")
"""

# Found by name in each process: no hooks, for a configuration file is not plain.
TELL = """
import json
import sys


def tell(name):
    with open(f"{name}.json", "w") as file:
        json.dump({name: getattr(module, "__file__", None)
                   for name, module in sys.modules.items()}, file)
"""

# Python imports this first: neither arbiter nor console has a method to ask it by.
FIRST = """
import atexit
import os
import sys
from tell import tell

NAMES = {"apihour_console": "console", "apihour": "arbiter"}


def tell_of_it(pid=os.getpid()):
    for word, name in NAMES.items():
        if os.getpid() == pid and word in sys.orig_argv:
            tell(name)
            break


atexit.register(tell_of_it)
"""

# What is for many machines, or for who asks for it.
NOT_ASKED = {"apihour.bus", "apihour.shared", "apihour_console.hosts.joining", "nats", "redis",
             "asyncpg", "grpc", "h2"}


def test_the_kernel_is_what_a_plain_daemon_loads(apihour_daemon, tmp_path):
    (tmp_path / "plain.py").write_text(APP)
    (tmp_path / "tell.py").write_text(TELL)
    (tmp_path / "sitecustomize.py").write_text(FIRST)
    daemon = apihour_daemon("plain:Container", workers=1, cwd=tmp_path, console=True,
                            env={"PYTHONPATH": str(tmp_path)})
    with daemon.connect("echo") as sock:
        echo(sock)
    assert ctl(daemon, "workers").returncode == 0
    names = {path.stem for path in daemon.runtime.path.iterdir()}
    assert not names & {"bus", "shared", "flags", "limits"}, "what nobody uses is not made"
    assert daemon.terminate() == 0
    modules = {name: json.loads((tmp_path / f"{name}.json").read_text())
               for name in ("arbiter", "worker", "console")}
    for name, found in modules.items():
        assert not NOT_ASKED & found.keys(), name
    loaded = {Path(file) for name in ("arbiter", "worker")
              for file in modules[name].values() if file}
    sizes = runpy.run_path(str(ROOT / ".ci" / "sizes"))
    core, asked = ROOT / "apihour", sizes["COMMANDS"]
    found = {str(path.relative_to(core)) for path in loaded if core in path.parents}
    counted = {str(path.relative_to(core)) for path in sizes["kernel"]()}
    commands = {name for name in found if sizes["is_any"](name, asked)}
    assert found - commands == counted, "see DOORS in .ci/sizes"
