"""Long texts cut for a message."""

from __future__ import annotations

from apihour.excerpt import excerpt


def test_a_short_text_is_as_it_was() -> None:
    assert excerpt("x" * 100, 100) == "x" * 100


def test_a_long_one_says_how_much_is_left_out() -> None:
    cut = excerpt("a" * 1000 + "b" * 5_000_000 + "c" * 1000, 1200)
    assert cut.startswith("a" * 300 + " [... ")
    assert cut.endswith("c" * 900)
    assert "[... 5000800 characters left out ...]" in cut
    assert len(cut) < 1300
