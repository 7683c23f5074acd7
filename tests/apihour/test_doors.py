"""What is behind a door is of the release that was started, whatever lies on the disk by then."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from apihour import doors

OPENED = """
import importlib
import sys
from apihour import doors
from apihour.arbiter.arbiter import DOORS

doors.keep(DOORS)
here = ("arbiter", "bind", "config", "limits", "orders", "reload", "template", "upgrade")
closed = [name for name in sys.meta_path[0]._kept if name.split(".")[1] in here]


class Replaced:
    def find_spec(self, name, path=None, target=None):
        assert not name.startswith("apihour"), f"{name} is read from the disk"


sys.meta_path.insert(1, Replaced())
assert not set(closed) & sys.modules.keys()
for name in closed:
    importlib.import_module(name)
print(*closed)
"""


def test_all_behind_the_arbiters_doors_is_kept() -> None:
    done = subprocess.run(
        [sys.executable, "-c", OPENED], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    opened = done.stdout.split()
    assert {"apihour.reload.reload", "apihour.orders.requests", "apihour.upgrade.upgrade",
            "apihour.template.process", "apihour.upgrade.inheritance"} <= set(opened)


def test_a_deploy_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = tmp_path / "kept_room"
    room.mkdir()
    (room / "__init__.py").write_text("")
    (room / "one.py").write_text("from kept_room.other import WORD\nMINE = __name__\n")
    (room / "other.py").write_text("WORD = 'old'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    doors.keep(["kept_room"])
    assert not {"kept_room.one", "kept_room.other"} & sys.modules.keys()
    (room / "one.py").unlink()
    (room / "other.py").write_text("WORD = 'another release'\n")
    from kept_room.one import MINE, WORD

    assert (MINE, WORD) == ("kept_room.one", "old")
    assert sys.modules["kept_room.one"].__file__ == str(room / "one.py")


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    with pytest.raises(ImportError, match=r"apihour\.none: expected a module"):
        doors.keep(["apihour.none"])
