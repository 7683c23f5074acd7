"""Tables and texts at the width of a terminal."""

from __future__ import annotations

import pytest

from apihour.ops.model import Column
from apihour_console.commands.operations import commands
from apihour_console.text.fit import fit, reflow
from apihour_console.text.render import table

WORKERS = commands.get("workers")
ROW = {
    "worker": "12.34", "pid": 4194304, "state": "serving", "age": 200_000.0, "rss": 123 << 20,
    "cpu": 99.9, "lag": 0.0123, "connections": 12_345, "accepted": 123_456, "requests": 1_234_567,
    "errors": 12,
}


def test_workers_fit_80_columns_whole() -> None:
    assert WORKERS is not None
    lines = table(WORKERS.columns, [ROW], 80).splitlines()
    assert len(lines) == 2 and max(map(len, lines)) <= 80
    assert lines[0].split() == ["WORKER", "PID", "STATE", "AGE", "RSS", "CPU", "LAG", "CONNS",
                                "ACC", "REQS", "ERRS"]
    assert "1234567" in lines[1]
    wide = table(WORKERS.columns, [ROW], 120).splitlines()
    assert "CONNECTIONS" in wide[0] and "  ACCEPTED" in wide[0]


@pytest.mark.parametrize("width", [20, 30, 40, 60, 79, 80, 81, 100, 200])
def test_no_line_of_any_table_is_wider_than_the_terminal(width: int) -> None:
    for command in commands:
        row = {column.name: "x" * 70 if column.type in ("str", "any") else 123_456
               for column in command.columns}
        for line in table(command.columns, [row], width).splitlines():
            assert len(line) <= width, (command.name, line)


def test_what_was_left_out_is_named_and_what_was_asked_for_stays() -> None:
    assert WORKERS is not None
    text = table(WORKERS.columns, [ROW], 40)
    assert "errors" in text and "--json" in text and "ERRS" not in text
    kept = table(WORKERS.columns, [ROW], 40, keep=("errors",))
    assert "ERRS" in kept and "(no room for" in kept
    assert "no room" not in table(WORKERS.columns, [ROW], None)
    coloured = table(WORKERS.columns, [ROW], 40, colour=True)
    assert "\x1b[2m(no room" in coloured


def test_texts_give_way_before_numbers_go() -> None:
    columns = (Column("peer", "str"), Column("where", "str"), Column("n", "int"))
    found = fit([one.name for one in columns], [50, 60, 6], [True, True, False], 40)
    assert found.columns == (0, 1, 2) and found.widths[2] == 6
    assert sum(found.widths) + 2 * found.gap <= 40
    found = fit(["a", "b", "c"], [30, 30, 30], [False] * 3, 20)
    assert found.columns == (0,) and found.widths == (20,)


@pytest.mark.parametrize("width", [40, 60, 80])
def test_help_breaks_no_word(width: int) -> None:
    for command in commands:
        text = command.help_text
        shown = reflow(text, width)
        assert shown.split() == text.split()
        long = [line for line in shown.splitlines() if len(line) > width]
        assert all(len(line.split()) == 1 for line in long), long
    assert "\n       [--" in reflow("usage: " + "[--x] " * 20, 40)


def test_the_right_half_of_a_help_line_stays_on_the_right() -> None:
    line = "  --filter COND  rows with a value that is what you asked for, or more than that"
    assert reflow(line, 50).splitlines() == [
        "  --filter COND  rows with a value that is what",
        "                 you asked for, or more than that",
    ]
    assert reflow("short\n\n  as it is", 40) == "short\n\n  as it is"
    assert reflow("x " * 100, None) == "x " * 100
