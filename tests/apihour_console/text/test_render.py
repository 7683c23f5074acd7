"""Rows as text: alignment, units, squeezing, and nothing that reaches the terminal's controls."""

from __future__ import annotations

import csv
import io
import json
import time

import pytest

from apihour.ops.model import Column
from apihour_console.text.present import presented
from apihour_console.text.render import (
    clean,
    csv_text,
    duration,
    format_value,
    json_text,
    size,
    table,
)

COLUMNS = (
    Column("name", "str"), Column("age", "seconds"), Column("rss", "bytes"),
    Column("cpu", "percent"), Column("up", "bool"),
)
ROWS = [
    {"name": "one", "age": 61, "rss": 2048, "cpu": 12.34, "up": True},
    {"name": "two\x1b]0;owned\x07", "age": 0.0021, "rss": -1, "cpu": None, "up": False},
]


def test_a_table_aligns_and_has_units() -> None:
    assert table(COLUMNS, ROWS).splitlines() == [
        "NAME           AGE   RSS    CPU  UP",
        "one          1m01s  2.0K  12.3%  yes",
        "two]0;owned  2.1ms     -      -  no",
    ]
    assert table(COLUMNS, []).splitlines() == ["NAME  AGE  RSS  CPU  UP"]
    assert table((), []) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x1b[31mb", "a[31mb"), ("a\x9b2Jb", "a2Jb"), ("a\rb\x00c\x7f", "abc"),
        ("\udc9b2Jb\ud83d", "2Jb"),
        ("tab\there", "tab    here"), ("\u202eevil\u2066", "evil"), ("héllo 世界", "héllo 世界"),
    ],
)
def test_control_characters_are_stripped(text: str, expected: str) -> None:
    assert clean(text) == expected
    assert format_value(text) == expected


def test_json_and_csv_carry_no_control_characters_either() -> None:
    for text in (json_text(ROWS), csv_text(COLUMNS, ROWS)):
        assert not any(ord(ch) < 32 and ch != "\n" for ch in text)
    assert json.loads(json_text(ROWS))[1]["name"] == "two\x1b]0;owned\x07"
    assert json.loads(json_text([])) == []
    rows = list(csv.DictReader(io.StringIO(csv_text(COLUMNS, ROWS))))
    assert rows[0]["rss"] == "2048" and rows[1]["cpu"] == ""
    formula = csv_text((Column("name"),), [{"name": "=1+1"}])
    assert formula == "name\n'=1+1\n"


def test_a_narrow_terminal_squeezes_text_and_never_numbers() -> None:
    columns = (Column("peer", "str"), Column("where", "str"), Column("n", "int"))
    rows = [{"peer": "x" * 50, "where": "世" * 30, "n": 123456}]
    for line in table(columns, rows, 40).splitlines():
        assert len(line) + line.count("世") <= 40
    assert "123456" in table(columns, rows, 40) and "…" in table(columns, rows, 40)


def test_several_lines_go_below_their_row() -> None:
    text = table((Column("worker", "str"), Column("text", "str")), [
        {"worker": "1.1", "text": "first\n  second\x1b[2J\n"}
    ])
    assert text.splitlines() == ["WORKER", "1.1", "    first", "      second[2J"]


def test_stacks_read_as_text() -> None:
    rows = [
        {"worker": "1.1", "thread": "loop", "state": "blocked", "blocked": 3.2, "frame": 0,
         "file": "/a.py", "line": 7, "function": "f\x1b[2J", "text": "time.sleep(9)"},
        {"worker": "1.1", "thread": "loop", "state": "blocked", "blocked": 3.2, "frame": 1,
         "file": "/b.py", "line": 9, "function": "g", "text": ""},
    ]
    assert presented("stack", rows, False) == (
        "worker 1.1, loop: blocked for 3.2s\n"
        "  /a.py:7  f[2J\n      time.sleep(9)\n  /b.py:9  g\n"
    )
    assert presented("workers", rows, False) is None


def test_stacks_of_several_hosts_say_whose_they_are() -> None:
    row = {"worker": "1.1", "thread": "loop", "state": "idle", "blocked": 0.0, "frame": 0,
           "file": "/a.py", "line": 7, "function": "f", "text": ""}
    assert presented("stack", [{"host": name, **row} for name in ("a", "b")], False) == (
        "host a, worker 1.1, loop: idle\n  /a.py:7  f\n\n"
        "host b, worker 1.1, loop: idle\n  /a.py:7  f\n"
    )


def test_units() -> None:
    assert [duration(value) for value in (0, 2e-5, 0.25, 9.99, 59, 3599, 86399, 90000)] == [
        "0s", "20us", "250ms", "9.99s", "59.0s", "59m59s", "23h59m", "1d01h"
    ]
    assert [size(value) for value in (0, 1023, 1024, 5 << 20, 3 << 40)] == [
        "0", "1023", "1.0K", "5.0M", "3.0T"
    ]


def test_a_thousand_rows_take_milliseconds() -> None:
    rows = [{**ROWS[0], "name": f"row-{number}"} for number in range(1000)]
    best = 1.0
    for _ in range(5):
        started = time.process_time()
        table(COLUMNS, rows, 80, True)
        best = min(best, time.process_time() - started)
    assert best < 0.05


def test_of_a_stack_a_table_shows_the_applications_frames_and_json_all() -> None:
    lines = [f"{json.__file__}:3 loads", "/srv/app/orders.py:7 load",
             "/v/site-packages/aiohttp/web.py:1 run", "/srv/app/app.py:9 index"]
    rows = [{"where": "orders.py:7 load", "stack": "\n".join(lines)},
            {"where": "", "stack": lines[0]}, {"where": "app.py:1 <module>", "stack": ""}]
    columns = [Column("where"), Column("stack", "stack")]
    assert table(columns, rows).splitlines() == [
        "WHERE", "orders.py:7 load", "    /srv/app/orders.py:7 load", "    /srv/app/app.py:9 index",
        "", f"    {lines[0]}", "app.py:1 <module>"]
