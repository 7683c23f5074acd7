"""The documents that are made from code are current."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_list_of_options_is_current() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_options.py")], capture_output=True, text=True,
        timeout=60)
    assert made.returncode == 0, made.stderr
    assert (ROOT / "docs" / "options.rst").read_text() == made.stdout, (
        "run: python docs/make_options.py > docs/options.rst")


def test_the_picture_of_the_rooms_is_current() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_rooms.py"))
    is_current = made["as_svg"](made["rooms"]()) == (ROOT / "docs" / "rooms.svg").read_text()
    assert is_current, "imports have changed; run: python docs/make_rooms.py"


DOCUMENTS = sorted([*ROOT.glob("*.rst"), *ROOT.glob("docs/**/*.rst")])
_SOURCE = re.compile(
    r"\b(?:apihour|protocols|tests|benchmarks|docs|examples)/[\w/.-]*\.(?:py|rst)\b")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_source_files_that_a_document_names_exist(path: Path) -> None:
    named = _SOURCE.findall(path.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []
