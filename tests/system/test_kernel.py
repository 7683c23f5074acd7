"""What a plain daemon loads of the core is what ``.ci/sizes`` counts as its kernel."""

import json
import runpy
from pathlib import Path

from tests.system.support import echo

ROOT = Path(__file__).resolve().parents[2]

APP = """
import apihour


async def answer(reader, writer):
    writer.write(await reader.readline())
    writer.close()


class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:0"}

    def make_servers(self):
        return {"echo": answer}
"""

HOOKS = """
import json
import sys


def _tell(name):
    with open(f"{name}.json", "w") as file:
        json.dump([getattr(module, "__file__", None) for module in sys.modules.values()], file)


def worker_exit(server, worker):
    _tell("worker")


def on_exit(server):
    _tell("arbiter")
"""


def test_the_kernel_is_what_a_plain_daemon_loads(apihour_daemon, tmp_path):
    (tmp_path / "plain.py").write_text(APP)
    (tmp_path / "hooks.py").write_text(HOOKS)
    daemon = apihour_daemon(
        "plain:Container", "-c", "hooks.py", workers=1, cwd=tmp_path, console=True)
    with daemon.connect("echo") as sock:
        echo(sock)
    assert daemon.terminate() == 0
    loaded = {Path(file) for name in ("arbiter", "worker")
              for file in json.loads((tmp_path / f"{name}.json").read_text()) if file}
    sizes = runpy.run_path(str(ROOT / ".ci" / "sizes"))
    core, asked = ROOT / "apihour", sizes["COMMANDS"]
    found = {str(path.relative_to(core)) for path in loaded if core in path.parents}
    counted = {str(path.relative_to(core)) for path in sizes["kernel"]()}
    commands = {name for name in found if sizes["is_any"](name, asked)}
    assert found - commands == counted, "see DOORS in .ci/sizes"
