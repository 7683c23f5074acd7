"""The arbiter's parts know its books and one another's roles, never the arbiter."""

from __future__ import annotations

import ast
from pathlib import Path

import apihour.arbiter

ROOMS = ("arbiter", "orders", "reload", "template", "upgrade", "books")
CORE = Path(apihour.arbiter.__file__).parents[1]


def test_no_part_names_the_arbiter() -> None:
    parts = sorted(path for room in ROOMS for path in (CORE / room).glob("*.py")
                   if path.name != "arbiter.py")
    assert len(parts) > 30
    assert [path.name for path in parts if "HostArbiter" in path.read_text()] == []


def test_no_constructor_starts_a_process() -> None:
    forks = {"fork", "Popen", "posix_spawn", "start_probe", "spawn"}
    found = [
        f"{path.relative_to(CORE)}:{call.lineno}"
        for path in sorted(CORE.rglob("*.py"))
        for made in ast.walk(ast.parse(path.read_text()))
        if isinstance(made, ast.FunctionDef) and made.name in ("__init__", "__post_init__")
        for call in ast.walk(made) if isinstance(call, ast.Call)
        and (getattr(call.func, "attr", None) or getattr(call.func, "id", None)) in forks
    ]
    assert found == []
