"""The tutorials, and recipes that say what to type, work as they stand."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.docs.blocks import ROOT, blocks
from tests.docs.sessions import Session, commands, matches

PAGES = [
    "docs/tutorials/first-service.rst",
    "docs/howto/auth.rst",
    "docs/howto/from-aiohttp.rst",
    "docs/howto/from-api-hour.rst",
    "docs/howto/ssh.rst",
    "docs/howto/static.rst",
    "docs/howto/tcp.rst",
    "docs/howto/tls.rst",
    "docs/howto/websocket-sse.rst",
    "docs/reference/etc.rst",
]


@pytest.mark.timeout(400)  # on a busy machine; the longest page takes 12 s on an idle one
@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_says_to_type(name: str, tmp_path: Path) -> None:
    for needed in ("ssh-keygen", "ssh", "curl"):
        if shutil.which(needed) is None:
            pytest.skip(f"needs {needed}")
    session = Session(tmp_path)
    try:
        for block in blocks(ROOT / name):
            session.follow(block)
    finally:
        session.close()


def test_how_what_is_printed_is_compared() -> None:
    assert matches("1 passed in ...", "1 passed in 0.20s\n")
    assert matches("a ... c", "a\nb\nc\n")
    assert not matches("1 passed", "2 passed")
    assert list(commands("$ a b   # why\n1\n$ c \\\n    d\n")) == [("a b", "1"), ("c d", "")]
