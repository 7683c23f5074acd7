"""What docs/tutorials/kit.rst adds to the starter kit's application fits it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.docs.blocks import ROOT, blocks

FILES = ("shop/services/notes.py", "shop/endpoints/http.py", "tests/test_notes.py",
         "shop/container.py")


def run(*words: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True, timeout=100,
        env={**os.environ, "DATABASE_URL": "postgresql://shop@127.0.0.1/shop"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _added(text: str, piece: str) -> str:
    """The piece at the end of its file, or, a method, behind ``make_servers``."""
    behind, mark, rest = text.partition("    async def start")
    if mark and "(self)" in piece:
        return f"{behind}{textwrap.indent(piece.rstrip(), '    ')}\n\n{mark}{rest}"
    return f"{text.rstrip()}\n\n\n{piece}"


def test_what_the_tutorial_adds_is_good(tmp_path: Path) -> None:
    page = ROOT / "docs" / "tutorials" / "kit.rst"
    pieces = [block.text for block in blocks(page) if block.language == "python"]
    assert "apihour new shop --with http,ssh,tcp,pg" in page.read_text()
    run("apihour", "new", "shop", "--with", "http,ssh,tcp,pg", cwd=tmp_path)
    for name, piece in zip(FILES, pieces, strict=True):
        path = tmp_path / "shop" / name
        assert f"{path.name}``" in page.read_text()
        path.write_text(_added(path.read_text(), piece))
    assert "127.0.0.1:8000" in run("apihour", "check", "shop:Container", "-ac", "--no-console",
                                   cwd=tmp_path / "shop")
    run("ruff", "check", ".", cwd=tmp_path / "shop")
    run("mypy", cwd=tmp_path / "shop")
    collected = run("pytest", "--collect-only", "-p", "no:cacheprovider",
                    "tests/test_notes.py", cwd=tmp_path / "shop")
    assert "test_a_note_is_found_by_its_number" in collected
