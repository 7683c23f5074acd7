"""The tests that README.rst and docs/testing.rst show are tests that pass."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
_BLOCK = re.compile(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)")


def blocks(page: str) -> list[str]:
    return [textwrap.dedent(one) for one in _BLOCK.findall((ROOT / page).read_text())]


def run(directory: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:apihour",
         str(directory)], cwd=directory, text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


def test_the_test_of_the_first_application(tmp_path: Path) -> None:
    for text in blocks("README.rst"):
        name = re.match(r"# (\w+\.py)\n", text)
        if name:
            (tmp_path / name[1]).write_text(text)
    assert {path.name for path in tmp_path.iterdir()} == {"hello.py", "test_hello.py"}
    run(tmp_path)


def test_the_test_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_orders.py").write_text(blocks("docs/testing.rst")[0])
    run(tmp_path)
