"""Evaluations of Python that overlap: each one's output is its own, and nothing stays behind."""

from __future__ import annotations

import ast
import asyncio
import sys
from types import CodeType

import pytest

from apihour.ops.commands.python import _evaluate


def compiled(source: str) -> CodeType:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return compile(source, "<shell>", "single", flags)


async def test_overlapping_evaluations_keep_their_output_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    shown: list[object] = []
    monkeypatch.setattr(sys, "displayhook", shown.append)
    first, second = asyncio.Event(), asyncio.Event()
    tasks = [
        asyncio.create_task(_evaluate("1.1", compiled("await gate.wait() and name"), names))
        for names in ({"gate": first, "name": "a"}, {"gate": second, "name": "b"})
    ]
    await asyncio.sleep(0)
    first.set()  # the first to begin is the first to end
    assert (await tasks[0]).output == "'a'\n"
    second.set()
    assert (await tasks[1]).output == "'b'\n"
    sys.displayhook("the application's own")
    assert shown == ["the application's own"]
