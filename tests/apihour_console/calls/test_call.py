from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import pytest

from apihour.errors import UsageError
from apihour.ops.annotations import Acts, Bytes, CommandName, Duration, Seconds, Short, Worker
from apihour.ops.catalogue import Catalogue
from apihour.ops.model import Role
from apihour_console.calls.call import (
    Call,
    Identity,
    Missing,
    Result,
    RoleError,
    UnknownCommand,
    apply,
    latest,
    selected,
)
from apihour_console.calls.parsing import parse_call


@dataclass(frozen=True)
class Row:
    worker: str
    age: Seconds
    rss: Bytes
    peer: str


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    made = Catalogue()

    @made.command(role="operator")
    def conns(
        context: Any, worker: Worker | None = None,
        *, tree: Annotated[bool, Short("t")] = False, for_: Duration = 3.0,
        kind: Literal["tcp", "udp"] = "tcp", top: int = 3, deep: bool = True,
    ) -> list[Row]:
        """List connections."""
        return []

    @made.command()
    async def logs(
        context: Any, *, follow: Annotated[bool, Short("f")] = False,
    ) -> AsyncIterator[Row]:
        """Follow."""
        yield Row("", 0.0, 0, "")

    @made.command()
    def sort(context: Any, name: str, *words: str, fast: bool = False) -> None:
        "Several words."

    @made.command()
    def watch(context: Any, interval: float, *command: CommandName) -> None:
        """Repeat."""

    @made.command()
    def again(context: Any, interval: Duration = 2.0, *command: CommandName) -> None:
        """Repeat, in a while that may be left out."""

    @made.command(name="help")
    def help_(context: Any, command: CommandName | None = None) -> None:
        """Help."""

    return made


def read(catalogue: Catalogue, line: str) -> Call:
    return parse_call(line.split(), catalogue)


def test_words_become_checked_arguments(catalogue: Catalogue) -> None:
    call = read(catalogue, "conns 1.2 -t --for=10m --kind udp --no-deep --json --limit 0")
    assert call.arguments == {
        "worker": "1.2", "tree": True, "for_": 600.0, "kind": "udp", "top": 3, "deep": False}
    assert (call.worker, call.json, call.limit) == ("1.2", True, 0)
    assert read(catalogue, "conns --worker 1,2.3").worker == "1,2.3"


def test_defaults_and_negative_numbers(catalogue: Catalogue) -> None:
    assert read(catalogue, "conns").arguments["for_"] == 3.0
    assert read(catalogue, "conns --top -5").arguments["top"] == -5
    assert read(catalogue, "watch -1").arguments == {"interval": -1.0, "command": []}


def test_a_word_left_out_before_a_command_has_its_default(catalogue: Catalogue) -> None:
    call = read(catalogue, "again conns --sort age")
    assert call.arguments == {"interval": 2.0, "command": ["conns", "--sort", "age"]}
    assert read(catalogue, "again 500ms conns").arguments["interval"] == 0.5


def test_a_command_in_a_command_keeps_its_options(catalogue: Catalogue) -> None:
    call = read(catalogue, "sort x --fast a b --json c")
    assert call.arguments == {"name": "x", "words": ["a", "b", "c"], "fast": True} and call.json
    assert read(catalogue, "sort x -- --json").arguments["words"] == ["--json"]
    call = read(catalogue, "watch --json 2 conns --sort age --json")
    assert call.arguments["command"] == ["conns", "--sort", "age", "--json"]
    assert call.json and not call.sort


def test_streams_follow_only_when_told(catalogue: Catalogue) -> None:
    assert read(catalogue, "logs -f").follows
    assert not read(catalogue, "logs").follows


@pytest.mark.parametrize(("line", "said"), [
    ("conns --tre", "unknown option --tre; did you mean --tree"),
    ("conns --limit x", "option --limit: 'x'; expected a number"),
    ("conns --limit -1", "--limit"),
    ("conns --sort foo", "no column 'foo'; expected one of worker, age"),
    ("conns --for soon", "--for: 'soon'; expected a time"),
    ("conns --top 1.5", "--top: '1.5'; expected a whole number"),
    ("conns --top 9999999999999999999999", "expected a whole number"),
    ("conns --kind udq", "did you mean udp"),
    ("conns 1 2", "unexpected word '2'"),
    ("conns x", "WORKER: 'x'; expected a worker"),
    ("conns --json=1", "expected no value"),
    ("conns --sort", "expected a value"),
    ("conns -q", "unknown option '-q'"),
    ("conns --filter rss>lots", "expected a number for rss"),
    ("conns --filter foo=1", "no column 'foo'"),
    ("watch", "INTERVAL is missing"),
    ("watch nan conns", "expected a number"),
])
def test_bad_words_are_named(catalogue: Catalogue, line: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(catalogue, line)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_unknown_command(catalogue: Catalogue) -> None:
    with pytest.raises(UnknownCommand, match="did you mean conns") as caught:
        read(catalogue, "cons")
    assert caught.value.exit_status == 127
    with pytest.raises(UnknownCommand, match=r"^'tail': no such command; did you mean logs\?$"):
        read(catalogue, "tail")
    with pytest.raises(UnknownCommand, match=r"^'frobnicate': no such command; help lists them$"):
        read(catalogue, "frobnicate")
    with pytest.raises(UsageError):
        parse_call([], catalogue)


def test_help_of_any_command(catalogue: Catalogue) -> None:
    call = read(catalogue, "watch --help")
    assert call.command.name == "help" and call.arguments == {"command": "watch"}
    assert read(catalogue, "conns -h").command.name == "help"


ROWS = [
    {"worker": "1.10", "age": 30.0, "rss": 3 << 20, "peer": "10.0.0.1:5"},
    {"worker": "1.9", "age": 90.0, "rss": 1 << 20, "peer": "10.0.0.2:5"},
    {"worker": "2.1", "age": 5.0, "rss": 2 << 20, "peer": None},
]


@pytest.mark.parametrize(("options", "workers"), [
    ("--sort worker", ["1.9", "1.10", "2.1"]),
    ("--sort -age --limit 2", ["1.9", "1.10"]),
    ("--filter age>1m", ["1.9"]),
    ("--filter age<=30s", ["1.10", "2.1"]),
    ("--filter rss>=2M", ["1.10", "2.1"]),
    ("--filter worker=1.9", ["1.9"]),
    ("--filter worker!=1.9", ["1.10", "2.1"]),
    ("--filter ~0.0.2", ["1.9"]),
    ("--filter rss>=2M --filter age<10", ["2.1"]),
    ("--sort peer", ["2.1", "1.10", "1.9"]),
    ("--limit 0", []),
])
def test_filter_sort_limit(catalogue: Catalogue, options: str, workers: list[str]) -> None:
    call = read(catalogue, "conns " + options)
    assert [row["worker"] for row in apply(call, ROWS)] == workers


def test_result_of_a_call(catalogue: Catalogue) -> None:
    call = read(catalogue, "conns --limit 1")
    whole = Result.of(call, ROWS)
    assert whole.status == 0 and len(whole.rows) == 1
    assert [column.name for column in whole.columns] == ["worker", "age", "rss", "peer"]
    assert Result.of(call, ROWS, [Missing("1.1", "stuck")]).status == 75


def test_role_is_checked(catalogue: Catalogue) -> None:
    command = read(catalogue, "conns").command
    Identity("ann", role=Role.ADMIN).check(command)
    with pytest.raises(RoleError, match="needs role operator; bob has role observer") as caught:
        Identity("bob").check(command)
    assert caught.value.exit_status == 126


@pytest.mark.parametrize(("text", "seconds"), [
    ("5", 5), ("500ms", 0.5), ("10m", 600), ("2h", 7200), ("1d", 86400)])
def test_durations(catalogue: Catalogue, text: str, seconds: float) -> None:
    assert read(catalogue, f"conns --for {text}").arguments["for_"] == seconds


@pytest.mark.parametrize("bad", ["5 parsecs", "-1", "1e5", "m"])
def test_what_is_no_duration(catalogue: Catalogue, bad: str) -> None:
    with pytest.raises(UsageError, match="expected a time such as"):
        parse_call(["conns", f"--for={bad}"], catalogue)


# A command that acts


@pytest.fixture(scope="module")
def acting() -> Catalogue:
    made = Catalogue()

    @made.command()
    def rows(context: Any) -> list[Row]:
        """List."""
        return []

    @made.command(selects="rows")
    def end(context: Any, row: str | None = None) -> list[Closed]:
        """End those chosen."""
        return []

    @made.command(acts="workers")
    def drain(context: Any, worker: Worker) -> list[Row]:
        """Of all workers chosen."""
        return []

    @made.command(acts="daemon")
    def reload(context: Any) -> list[Row]:
        """Of the daemon."""
        return []

    @made.command()
    def gc(context: Any, *, collect: Annotated[bool, Acts()] = False) -> list[Row]:
        """Acts when told to."""
        return []

    return made


@pytest.mark.parametrize(("line", "said"), [
    ("drain 1 --limit 1", "option --limit: rows tell of all that was done; "
                          "expected --worker to choose"),
    ("drain 1 --filter age>1", "option --filter: rows tell"),
    ("reload --limit=1", "option --limit: rows tell of all that was done; expected none"),
    ("reload --worker 1", "option --worker: it is for the whole daemon; expected none"),
    ("gc --limit 1 --collect", "option --limit: rows tell"),
    ("gc --collect --filter age>1", "option --filter: rows tell"),
    ("drain 1 --worker 2", "WORKER '1' and --worker '2'; expected one of them"),
])
def test_what_would_hide_what_was_done_is_refused(
    acting: Catalogue, line: str, said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        read(acting, line)
    assert said in str(caught.value)


def test_what_a_command_that_acts_takes(acting: Catalogue) -> None:
    assert read(acting, "drain --worker 2,3 2,3").worker == "2,3"
    assert read(acting, "drain 1 --json").json
    assert read(acting, "gc --limit 1").limit == 1
    assert read(acting, "gc --no-collect --filter age>1").filters
    assert "--limit" not in acting.get("drain").full_usage  # type: ignore[union-attr]
    about = acting.get("reload").help_text  # type: ignore[union-attr]
    assert "--worker" not in about and "--json" in about


@pytest.mark.parametrize(("line", "looks"), [
    ("rows", True), ("gc", True), ("gc --collect", False), ("drain 1", False), ("reload", False),
    ("end --filter age>1", False)])
def test_a_call_that_only_looks(acting: Catalogue, line: str, looks: bool) -> None:
    assert read(acting, line).only_looks is looks


def test_an_applications_command_may_do_anything_unless_observers_run_it(
    catalogue: Catalogue
) -> None:
    command = read(catalogue, "conns").command  # of operators
    assert Call(command).only_looks and not Call(replace(command, application=True)).only_looks
    assert Call(replace(command, application=True, role=Role.OBSERVER)).only_looks
    assert Call(replace(command, application=True)).may_act and not Call(command).may_act
    assert not read(catalogue, "logs").may_act
    assert not read(catalogue, "logs").only_looks, "it has no end, or may have none"


def test_what_is_acted_on_is_chosen_by_filter_order_and_limit(acting: Catalogue) -> None:
    call = read(acting, "end --filter age>10 --sort -age --limit 1")
    assert [row["worker"] for row in selected(call, ROWS)] == ["1.9"]
    assert apply(call, [{"id": "7"}]) == [{"id": "7"}]
    with pytest.raises(UsageError, match="no column 'nosuch'; expected one of worker, age"):
        read(acting, "end --sort nosuch")


@dataclass(frozen=True)
class Closed:
    """What ``end`` says; none of it is a column of ``rows``."""

    id: str


# A command that streams


def test_the_limit_of_a_stream_that_is_over_takes_the_latest(catalogue: Catalogue) -> None:
    latest = [row["worker"] for row in apply(read(catalogue, "logs --limit 2"), ROWS)]
    assert latest == ["1.9", "2.1"]
    assert apply(read(catalogue, "logs --limit 0"), ROWS) == []
    by_age = read(catalogue, "logs --sort age --limit 1")  # of an order: its first
    assert [row["worker"] for row in apply(by_age, ROWS)] == ["2.1"]


def test_of_the_past_as_many_rows_as_asked_for_are_chosen_from_all_there_are(
    catalogue: Catalogue
) -> None:
    call = read(catalogue, "logs --filter age>10")
    assert [row["worker"] for row in latest(call, ROWS, 1)] == ["1.9"]
    assert [row["worker"] for row in latest(call, ROWS, 5)] == ["1.10", "1.9"]
    assert latest(call, ROWS, 0) == []


def test_a_stream_has_no_order_but_its_own(catalogue: Catalogue) -> None:
    with pytest.raises(UsageError, match="option --sort: rows come as they happen"):
        read(catalogue, "logs -f --sort age")
