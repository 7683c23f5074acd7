from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from apihour.errors import ConfigurationError
from apihour.ops.annotations import Bytes, Duration, Seconds, Short, Worker
from apihour.ops.catalogue import Catalogue, command
from apihour.ops.model import Column, Command, Role
from apihour.ops.rows import to_rows


@dataclass(frozen=True)
class Row:
    worker: str
    age: Seconds
    rss: Bytes
    peer: str | None = None


def make() -> Catalogue:
    catalogue = Catalogue()

    @catalogue.command(role="operator", deadline=5.0, extends="for_")
    def conns(
        context: Any, worker: Worker | None = None,
        *, tree: Annotated[bool, Short("t"), "as a tree"] = False, for_: Duration = 3.0,
        kind: Literal["tcp", "udp"] = "tcp",
    ) -> list[Row]:
        """List connections.

        Every one of them.

        Args:
            worker: which one
            kind: which sort
        """
        return []

    @catalogue.command()
    async def logs(context: Any, *, follow: bool = False) -> AsyncIterator[Row]:
        """Follow."""
        yield Row("1.1", 0.0, 0)

    @catalogue.command(name="sampled", streams=True)
    def sample(context: Any, count: int, *words: str) -> Iterator[Row | float]:
        """Sample."""
        yield 0.1

    return catalogue


def test_everything_is_derived_from_the_signature() -> None:
    conns = make().get("conns")
    assert conns is not None
    assert conns.usage == "conns [WORKER] [-t|--tree] [--for TIME] [--kind tcp|udp]"
    assert conns.summary == "List connections" and conns.description == "Every one of them."
    assert conns.role is Role.OPERATOR
    assert conns.columns == (Column("worker", "str"), Column("age", "seconds"),
                             Column("rss", "bytes"), Column("peer", "str"))
    helps = {one.name: one.help for one in conns.parameters}
    assert helps == {"worker": "which one", "tree": "as a tree", "for_": "", "kind": "which sort"}
    assert conns.time_allowed({"for_": 10.0}) == 15.0
    assert "which sort" in conns.help_text and "role: operator" in conns.help_text


def test_help_tells_the_defaults() -> None:
    catalogue = Catalogue()

    @catalogue.command()
    def look(
        context: Any, interval: Duration = 2.0, *, pause: Annotated[Duration, "between"] = 0.01,
        count: Annotated[int, "how many"] = 50, deep: Annotated[bool, "all"] = False,
        only: Annotated[int | None, "one"] = None, name: Annotated[str, "whose"] = "",
        long: Annotated[Duration, "at most"] = 600.0,
    ) -> None:
        """Look.

        Args:
            interval: between looks
        """

    text = look_help = catalogue.get("look").help_text  # type: ignore[union-attr]
    assert text.startswith("usage: look [INTERVAL] [--pause TIME] [--count N] [--deep] [--only N] ")
    told = {line.split("  ")[-1].strip() for line in look_help.splitlines()}
    assert {"between looks [2s]", "between [10ms]", "how many [50]", "all", "one", "whose",
            "at most [10m]"} <= told


def test_streams_and_variadic_words() -> None:
    logs, sampled = make().get("logs"), make().get("sampled")
    assert logs is not None and sampled is not None
    assert logs.streams and sampled.streams
    assert logs.columns == sampled.columns
    assert sampled.usage == "sampled COUNT [WORDS...]"


def test_a_command_travels_as_a_record() -> None:
    for one in make():
        assert Command.from_record(json.loads(json.dumps(one.to_record()))) == one


@pytest.mark.parametrize("change", [
    {"name": "../x"}, {"name": "A"}, {"role": "emperor"}, {"collects": "moon"},
    {"parameters": [{"name": "a", "type": "thing"}]}, {"parameters": [{"nome": "a"}]},
    {"columns": [{"name": "a", "type": "colour"}]}, {"strange": 1},
    {"parameters": [{"name": "json", "type": "bool"}]},
])
def test_a_wrong_record_is_refused(change: dict[str, Any]) -> None:
    record = next(iter(make())).to_record()
    with pytest.raises(ConfigurationError, match="command"):
        Command.from_record({**record, **change})


def test_a_name_is_taken_once_and_nothing_is_half_added() -> None:
    catalogue = make()
    other = make()
    with pytest.raises(ConfigurationError, match=r"conns .*, logs .*, sampled "):
        catalogue.update(other)
    fresh = Catalogue()

    @fresh.command()
    def conns(context: Any) -> None:
        """Another."""

    @fresh.command()
    def extra(context: Any) -> None:
        """New."""

    with pytest.raises(ConfigurationError) as refused:
        catalogue.update(fresh)
    assert "extra" not in catalogue
    both = [f"{__name__}.{entry.function.__qualname__}"
            for one in (fresh, catalogue) if (entry := one.entry("conns")) and entry.function]
    assert f"conns ({both[0]} and {both[1]}): the names are taken" in str(refused.value)
    assert "merges=True" in str(refused.value)


def test_a_command_that_says_so_goes_before_another() -> None:
    catalogue, fresh = make(), Catalogue()

    @fresh.command(merges=True)
    def conns(context: Any) -> None:
        """Another."""

    catalogue.update(fresh)
    assert catalogue.get("conns").summary == "Another"  # type: ignore[union-attr]


def test_what_cannot_be_a_command_is_named() -> None:
    def keyed(context: Any, **options: str) -> None: ...
    def typed(context: Any, value: bytes) -> None: ...
    def taken(context: Any, *, json: bool = False) -> None: ...

    for function, problem in ((keyed, "options"), (typed, "bytes"), (taken, "--json")):
        with pytest.raises(ConfigurationError, match=problem):
            Catalogue().command()(function)


def test_commands_of_a_container() -> None:
    class Container:
        @command(role="admin", scope="first", deadline=3.0)
        def greet(self, name: str) -> str:
            """Say hello."""
            return name

        @property
        def unrelated(self) -> str:
            raise AssertionError("properties are not touched")

    own = Catalogue.of(Container())
    greet = own.get("greet")
    assert greet is not None
    assert (greet.role, greet.scope, greet.collects, greet.application) == (
        Role.ADMIN, "first", "loop", True)
    assert greet.usage == "greet NAME"


def test_rows_of_anything() -> None:
    assert to_rows(None) == []
    assert to_rows([Row("1", 1.0, 2), {"a": 1}, "x"]) == [
        {"worker": "1", "age": 1.0, "rss": 2, "peer": None}, {"a": 1}, {"value": "x"}]


def test_roles_are_ordered() -> None:
    assert Role.OBSERVER < Role.OPERATOR < Role.ADMIN
    assert Role.parse("admin") is Role.ADMIN
    with pytest.raises(ValueError, match="observer, operator, admin"):
        Role.parse("root")
