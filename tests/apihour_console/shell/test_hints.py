"""Signs of other shells get a line that says what to type instead."""

from __future__ import annotations

import pytest

from apihour.errors import UsageError
from apihour_console.shell.hints import refuse_other_shells


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("workers | grep 1.1", r"'\|': there are no pipes.*ssh HOST workers --csv \| \.\.\."),
        ("workers|grep x", r"'\|': .*ssh HOST workers --csv \|"),
        ("workers ; conns", "';': one command a line"), ("workers; conns", "';': one command"),
        ("workers;conns", "';': one command"), ("drain 1 && reload", "'&&': one command"),
        ("conns > /tmp/x", "'>': there are no files.*ssh HOST conns --csv > "),
        ("conns >> x", "'>>': "), ("| x", r"ssh HOST COMMAND --csv \|"), ("top &", "'&': one"),
    ],
)
def test_what_is_meant_is_said_in_one_line(line: str, expected: str) -> None:
    with pytest.raises(UsageError, match=expected) as error:
        refuse_other_shells(line)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "line",
    ["workers --filter cpu>50", "workers --filter 'a | b'", 'conns --filter "x; y"', "", "  ",
     "python 1 'a > b'", "python 1 \";\"", "open 'quote |", "conns --filter peer>=10;1"],
)
def test_text_and_comparisons_are_left_alone(line: str) -> None:
    refuse_other_shells(line)
