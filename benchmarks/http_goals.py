"""What ``http.py`` is meant to show: goals, and whether each form of endpoint reaches them.

Rules:

- Every goal is a ratio of CPU time per answer, taken within rounds, and none rests on
  requests that repeat.
- A goal that was not measured has neither passed nor failed: its figure is a dash.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from _bench import table

__all__ = ["DIRECT", "LIMIT", "goals"]

LIMIT = "limit: uvloop protocol, constant"
DIRECT = {
    "async def": "apihour, async def", "def": "apihour, def",
    "async def, aiohttp": "apihour, async def, aiohttp's parser",
    "def, aiohttp": "apihour, def, aiohttp's parser",
}
"""By the head of a column, which names the form and the parser that is not the fastest: ours."""
DIFFERING = ("query", "browser")
WITH_BODIES = (*DIFFERING, "post")


@dataclass(frozen=True)
class Goal:
    """In each of `cases`, `peer` costs at least `ratio` times what each of `ours` does."""

    peer: str
    ratio: float
    cases: tuple[str, ...] = DIFFERING
    ours: tuple[str, ...] = tuple(DIRECT.values())


def hosted(name: str) -> tuple[str, ...]:
    return (name, f"{name}, aiohttp's parser")


GOALS = (
    Goal(LIMIT, 0.60),
    Goal("granian RSGI", 1.5),
    Goal("socketify", 1.1),
    Goal("fastpysgi, bare ASGI", 1.2),
    Goal("uvicorn + Starlette", 4.0),
    Goal("granian RSGI", 1.5, ("post",)),
    Goal("granian RSGI", 1.0, ("close",)),
    Goal("aiohttp app, gunicorn's worker", 1.0, WITH_BODIES, hosted("apihour + aiohttp app")),
    Goal("uvicorn + Starlette", 1.0, WITH_BODIES, hosted("apihour + Starlette")),
    Goal("Flask on gunicorn", 0.95, WITH_BODIES, ("apihour + Flask",)),
    Goal(LIMIT, 1 / 1.2, ("accept",), ("apihour, raw TCP",)),
)

Ratio = Callable[[str, str, str], float | None]


def goals(ratio: Ratio) -> str:
    """Two tables; `ratio` is, of a case, what a peer costs as a multiple of one of ours."""
    direct = [goal for goal in GOALS if goal.ours == tuple(DIRECT.values())]
    others = [goal for goal in GOALS if goal not in direct]
    return "\n\n".join([
        table(["CPU: peer / ours", "case", "goal", *DIRECT], [
            [goal.peer, case, f">= {goal.ratio:g}", *(
                judged(ratio(case, goal.peer, name), goal) for name in goal.ours)]
            for goal in direct for case in goal.cases]),
        table(["CPU: peer / ours", "case", "goal", "measured"], [
            [f"{goal.peer} / {name}", case, f">= {goal.ratio:.3g}",
             judged(ratio(case, goal.peer, name), goal)]
            for goal in others for name in goal.ours for case in goal.cases]),
    ])


def judged(figure: float | None, goal: Goal) -> str:
    if figure is None:
        return "-"
    return f"{figure:.2f} {'pass' if figure >= goal.ratio else 'FAIL'}"
