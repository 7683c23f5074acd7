"""What is shown of the slowest query, and for how long."""

from apihour.engines import slowest as module
from apihour.engines.slowest import Slowest


def test_the_slowest_is_shown_in_one_line_without_secrets():
    slowest = Slowest()
    assert slowest.told() == (0.0, "")
    slowest.note(0.5, "SELECT 1\n  FROM t\x1b[2J WHERE password = 'hidden'")
    slowest.note(0.2, "SELECT 2")
    seconds, query = slowest.told()
    assert seconds == 0.5 and query.startswith("SELECT 1 FROM t\\x1b[2J WHERE password = ")
    assert "hidden" not in query
    slowest.note(0.7, "SELECT " + "x, " * 10_000)
    assert len(slowest.told()[1]) < 300


def test_it_is_forgotten_after_a_while(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    slowest = Slowest()
    slowest.note(3.0, "SELECT slow")
    now[0] += 200
    slowest.note(1.0, "SELECT quick")
    assert slowest.told() == (3.0, "SELECT slow")
    now[0] += 200
    assert slowest.told() == (1.0, "SELECT quick")
    now[0] += 400
    assert slowest.told() == (0.0, "")
