"""The recipes of CONTRIBUTING.rst, carried out as they stand there."""

from __future__ import annotations

import asyncio
import importlib
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.config import own
from apihour.config.settings import HostConfig
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands import process
from apihour.ops.rows import to_rows
from apihour.plugins import Registry

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^\.\. code-block:: python\n\n((?:(?:   .*)?\n)+)", re.MULTILINE)


def recipe(word: str) -> str:
    """The one block of code that has `word` in it."""
    text = (ROOT / "CONTRIBUTING.rst").read_text()
    (found,) = (block for block in BLOCK.findall(text) if word in block)
    return textwrap.dedent(found)


def test_a_command() -> None:
    catalogue = Catalogue()
    room: dict[str, Any] = {**vars(process), "commands": catalogue}
    exec(recipe("def umask"), room)
    entry = catalogue.entry("umask")
    assert entry is not None and entry.function is not None
    rows = entry.function(SimpleNamespace(worker=SimpleNamespace(name="1.1")))
    assert to_rows(rows) == [{"worker": "1.1", "umask": rows[0].umask}]
    assert re.fullmatch("0[0-7]{3}", rows[0].umask)


def test_an_option(monkeypatch: pytest.MonkeyPatch) -> None:
    made: Any = eval(recipe("politeness").strip().rstrip(","), dict(vars(own)))
    assert (made.name, made.cli, made.default) == ("politeness", ["--politeness"], 0)
    monkeypatch.setattr("apihour.config.settings.OWN", (*own.OWN, made))
    cfg = HostConfig()
    cfg.set("politeness", "3")
    assert cfg.politeness == 3
    with pytest.raises(Exception, match=r"politeness.*expected"):
        cfg.set("politeness", "never")


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The plugin's package."""
    package = tmp_path / "apihour_mine"
    package.mkdir()
    (package / "py.typed").touch()
    for name in ("adapter.py", "__init__.py"):
        (package / name).write_text(recipe(f"# {name}\n"))
    return package


async def test_a_plugin(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(mine.parent))
    plugin = importlib.import_module("apihour_mine.adapter").plugin
    greeter = sys.modules["apihour_mine"].Greeter(b"good day")
    server: Any = Registry([plugin]).adapt(greeter, "stream", "hello")
    await server.start()
    listening = await asyncio.get_running_loop().create_server(server.stream, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
    assert await asyncio.wait_for(reader.read(), 30) == b"good day"
    writer.close()
    listening.close()
    await server.drain(0.0)
    await server.stop()
    for name in ("apihour_mine.adapter", "apihour_mine"):
        del sys.modules[name]


def test_a_plugin_is_written_as_the_others_are(mine: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / ".ci" / "ruff.toml"),
         str(mine)], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout
