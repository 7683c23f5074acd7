"""What docs/tutorials/kit.rst adds to the starter kit's application fits it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.docs.blocks import ROOT, blocks

FILES = ("shop/services/notes.py", "shop/endpoints/http.py", "tests/test_notes.py")


def run(*words: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, capture_output=True, text=True, timeout=100,
        env={**os.environ, "DATABASE_URL": "postgresql://shop@127.0.0.1/shop"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_the_tutorial_adds_is_good(tmp_path: Path) -> None:
    page = ROOT / "docs" / "tutorials" / "kit.rst"
    pieces = [block.text for block in blocks(page) if block.language == "python"]
    assert "apihour new shop --with http,ssh,tcp,pg" in page.read_text()
    run("apihour", "new", "shop", "--with", "http,ssh,tcp,pg", cwd=tmp_path)
    for name, piece in zip(FILES, pieces, strict=True):
        path = tmp_path / "shop" / name
        assert f"{path.name}``" in page.read_text()
        path.write_text(f"{path.read_text().rstrip()}\n\n\n{piece}")
    assert "127.0.0.1:8000" in run("apihour", "check", "shop:Container", "-ac", "--no-console",
                                   cwd=tmp_path / "shop")
    run("ruff", "check", ".", cwd=tmp_path / "shop")
    collected = run("pytest", "--collect-only", "-p", "no:cacheprovider",
                    "tests/test_notes.py", cwd=tmp_path / "shop")
    assert "test_a_note_is_found_by_its_number" in collected
