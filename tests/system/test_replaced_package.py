"""A deploy replaces the package under a living daemon: what runs needs no file of its own."""

import shutil
from pathlib import Path

from tests.system.support import get

CORE = Path(__file__).resolve().parents[2] / "apihour"
ROOMS = ("arbiter", "books", "config", "orders", "reload", "template", "upgrade")


def test_orders_and_reloads_are_of_the_release_that_runs(apihour_daemon, app, tmp_path):
    package = tmp_path / "site" / "apihour"
    shutil.copytree(CORE, package, ignore=shutil.ignore_patterns("__pycache__"))
    daemon = apihour_daemon("house:Container", cwd=app, workers=1,
                            env={"PYTHONPATH": str(package.parent)})
    for room in ROOMS:
        for path in (package / room).glob("*.py"):
            path.write_text("raise ImportError('another release')\n")
    assert daemon.reload().ok
    newest = max(daemon.workers("serving"), key=lambda row: row.generation)  # an old one may leave
    assert daemon.request("restart", worker=newest.worker).ok
    assert not daemon.upgrade().ok, "the new arbiter has the other release"
    assert get(daemon)["pid"]
    assert daemon.terminate() == 0
    assert "another release" in daemon.log
