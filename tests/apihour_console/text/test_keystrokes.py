"""What is typed becomes keys and pastes; sequences cut by the network are put together."""

from __future__ import annotations

import time

import pytest

from apihour_console.text.keystrokes import Keystrokes


def split(*texts: str, limit: int = 1000) -> list[str]:
    """Keys as they are, pastes in angle brackets."""
    found: list[str] = []
    strokes = Keystrokes(found.append, lambda text: found.append(f"<{text}>"), limit)
    for text in texts:
        strokes.feed(text)
    rest = strokes.flush()
    return [*found, f"rest {rest!r}"] if rest else found


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["abc"], ["a", "b", "c"]),
        (["abcdefgh"], ["<abcdefgh>"]),
        (["abcdefgh\rx"], ["<abcdefgh>", "\r", "x"]),
        (["\x1b[A\x1b[1;5Cx"], ["\x1b[A", "\x1b[1;5C", "x"]),
        (["\x1b", "[", "A"], ["\x1b[A"]),
        (["\x1bOP\x1bf"], ["\x1bOP", "\x1bf"]),
        (["\x1b"], ["rest '\\x1b'"]), (["\x1b\t\r"], ["\x1b", "\t", "\r"]),
        (["\x1b\x1b[A"], ["\x1b", "\x1b[A"]), (["\x1b\x7f"], ["\x1b\x7f"]),
        (["\x1b[200~a\nb\x1b[201~c"], ["<a\nb>", "c"]),
        (["\x1b[200~a", "b\x1b[20", "1~c"], ["<ab>", "c"]),
        (["\x1b[200~a\x1b[3", "1mb\x1b[201~"], ["<a\x1b[31mb>"]),
        (["x\x1b[2", "00~paste\x1b[201~"], ["x", "<paste>"]),
    ],
)
def test_splitting(texts: list[str], expected: list[str]) -> None:
    assert split(*texts) == expected


def test_any_cut_gives_the_same() -> None:
    text = "ab\x1b[1;5D\x1b[200~pa\nste\x1b[201~z\x1bq\r"
    whole = split(text)
    for position in range(len(text)):
        assert split(text[:position], text[position:]) == whole


def test_pastes_are_bounded_and_fast() -> None:
    assert split("\x1b[200~" + "x" * 5000 + "\x1b[201~", limit=100) == [f"<{'x' * 100}>"]
    assert split("y" * 5000, limit=100) == [f"<{'y' * 100}>"]
    started = time.process_time()
    pieces = ["\x1b[200~", *["x" * 1000] * 1000, "\x1b[201~"]
    assert len(split(*pieces, limit=1 << 16)[0]) == (1 << 16) + 2
    assert time.process_time() - started < 1
