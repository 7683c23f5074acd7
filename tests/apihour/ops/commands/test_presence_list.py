"""``presence``: what the workers' applications have said, without a look at the store."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from apihour.app.container import Container
from apihour.ops.commands.presence_list import presence
from apihour.ops.model import CommandFailed


def house(path: Path) -> Any:
    runtime = SimpleNamespace(shared=path / "shared")
    worker = SimpleNamespace(name="2.1", runtime=runtime)
    worker.container = Container({}, worker)
    return SimpleNamespace(worker=worker)


async def test_rows_are_of_this_worker_and_of_a_pattern(tmp_path: Path) -> None:
    context = house(tmp_path)
    assert list(presence(context)) == []
    assert not (tmp_path / "shared").exists(), "asking opens no store"
    container = context.worker.container
    await container.presence.join("room.a", "ada", door="ssh", said="\x1b[2J")
    await container.presence.join("else", "bob")
    assert [(row.worker, row.who, row.subject, row.about) for row in presence(context)] == [
        ("2.1", "ada", "room.a", '{"door": "ssh", "said": "\\u001b[2J"}'),
        ("2.1", "bob", "else", "")]
    [row] = presence(context, "room.*")
    assert row.who == "ada" and row.since.endswith("Z")
    with pytest.raises(CommandFailed, match=r"'room\.>\.x'") as failed:
        list(presence(context, "room.>.x"))
    assert failed.value.kind == "usage"
    await container.close_made()


def test_a_worker_without_a_container_has_nobody() -> None:
    context: Any = SimpleNamespace(worker=SimpleNamespace(container=None))
    assert list(presence(context)) == []
