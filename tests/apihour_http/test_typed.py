"""The container has its type where it is asked for: for checkers, at no price when it runs."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from apihour_http import Request, Routes
from apihour_http.testing import Client

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "http.rst").read_text()
USES = '''

async def untyped(request: Request) -> Any:
    assert_type(request.container, Any)
    return request.container.anything


async def typed(request: Request[Container]) -> None:
    assert_type(request.container, Container)
    assert_type(request.container.prices, dict[str, int])
    request.container.price  # WRONG


async def hosted(request: web.Request) -> None:
    assert_type(request.app[CONTAINER], Container)
    request.app[CONTAINER].price  # WRONG
'''


class House:
    """Any class may be the container."""


def test_a_strict_checker_knows_it(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    found = re.search(r"\n   (# shop\.py\n(?:   .*\n|\n)+)", PAGE)
    assert found is not None
    text = textwrap.dedent("   " + found[1]) + USES
    text = "from typing import Any, assert_type\n" + text
    (tmp_path / "shop.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "setup.cfg"),
         "--cache-dir", str(tmp_path / "cache"), str(tmp_path / "shop.py")],
        cwd=ROOT, text=True, capture_output=True, timeout=300)
    told = [int(line) for line in re.findall(r"shop\.py:(\d+): error", done.stdout)]
    wrong = [number for number, line in enumerate(text.splitlines(), 1) if "# WRONG" in line]
    assert told == wrong, done.stdout + done.stderr


async def test_it_runs_as_without() -> None:
    routes = Routes()

    @routes.get("/{number}")
    async def typed(request: Request[House], number: int) -> dict[str, bool]:
        return {"right": type(request) is Request and number == 7 and request.container is None}

    async with Client(routes) as client:
        assert (await client.get("/7")).json() == {"right": True}
