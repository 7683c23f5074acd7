"""The documents that are made from code are current."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_list_of_options_is_current() -> None:
    made = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "make_options.py")], capture_output=True, text=True,
        timeout=60)
    assert made.returncode == 0, made.stderr
    assert (ROOT / "docs" / "options.rst").read_text() == made.stdout, (
        "run: python docs/make_options.py > docs/options.rst")
