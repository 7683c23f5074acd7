"""A CPU profile for people: a table of where the time went, and a flame graph.

Rules: no I/O, text in and text out. A stack is its frames from the root, parted by
semicolons; the SVG is self-contained: no script, no font, no link, names escaped.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape, quoteattr

from apihour.ops.annotations import Percent

__all__ = ["IDLE", "HotSpot", "flame_graph", "hot_spots"]

IDLE = "(idle)"
_WIDTH, _HEIGHT, _MARGIN, _HEAD = 1200, 17, 10, 44  # pixels: picture, one frame, edges, title
_NARROW = 0.4  # pixels below which a frame is left out
_LETTER = 6.6  # pixels of one character at 11 px monospace
_DEEPEST = 150  # frames of a stack that are drawn


@dataclass(frozen=True)
class HotSpot:
    """One function: samples in itself, samples in it and what it called; shares of all."""

    function: str
    self: int
    total: int
    self_percent: Percent
    total_percent: Percent


@dataclass
class _Branch:
    """One frame in one place of the tree."""

    samples: int = 0
    children: dict[str, _Branch] = field(default_factory=dict)


def hot_spots(stacks: Mapping[str, int]) -> list[HotSpot]:
    """The functions of a profile, those with the most samples of their own first."""
    everything = sum(stacks.values()) or 1
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for stack, samples in stacks.items():
        frames = stack.split(";")
        own[frames[-1]] += samples
        for frame in set(frames):
            total[frame] += samples
    return [
        HotSpot(name, own[name], count, 100.0 * own[name] / everything,
                100.0 * count / everything)
        for name, count in sorted(total.items(), key=lambda pair: (-own[pair[0]], -pair[1]))
    ]


def flame_graph(stacks: Mapping[str, int], title: str) -> str:
    """An SVG of the busy samples; the idle ones are told of in the title."""
    root, deepest = _tree({key: count for key, count in stacks.items() if key != IDLE})
    everything = sum(stacks.values()) or 1
    title = f"{title}: {root.samples} busy of {everything} samples"
    height = _HEAD + (deepest + 1) * _HEIGHT + _MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" font-family="monospace" font-size="11">',
        '<rect width="100%" height="100%" fill="#fffef8"/>',
        f'<text x="{_WIDTH / 2}" y="24" text-anchor="middle" font-size="15">{escape(title)}</text>',
    ]
    _draw(parts, "all", root, float(_MARGIN), float(_WIDTH - 2 * _MARGIN), 0, height, root.samples)
    return "\n".join([*parts, "</svg>", ""])


def _tree(stacks: Mapping[str, int]) -> tuple[_Branch, int]:
    root, deepest = _Branch(), 0
    for stack, samples in stacks.items():
        frames = stack.split(";")[:_DEEPEST]
        deepest = max(deepest, len(frames))
        node = root
        node.samples += samples
        for frame in frames:
            node = node.children.setdefault(frame, _Branch())
            node.samples += samples
    return root, deepest


def _draw(
    parts: list[str], name: str, node: _Branch, left: float, width: float, depth: int, height: int,
    everything: int,
) -> None:
    if width < _NARROW:
        return
    top = height - _MARGIN - (depth + 1) * _HEIGHT
    share = 100.0 * node.samples / (everything or 1)
    hover = escape(f"{name}: {node.samples} samples, {share:.1f}%")
    parts.append(
        f"<g><title>{hover}</title><rect x={quoteattr(f'{left:.1f}')} y=\"{top}\" "
        f'width="{width:.1f}" height="{_HEIGHT - 1}" fill="{_colour(name)}" rx="1"/>'
    )
    letters = int((width - 6) / _LETTER)
    if letters >= 3:
        short = name if len(name) <= letters else name[: letters - 1] + "…"
        parts.append(f'<text x="{left + 3:.1f}" y="{top + 12}">{escape(short)}</text>')
    parts.append("</g>")
    for child, below in sorted(node.children.items()):
        part = width * below.samples / (node.samples or 1)
        _draw(parts, child, below, left, part, depth + 1, height, everything)
        left += part


def _colour(name: str) -> str:
    """A warm colour that stays the same for the same name."""
    value = zlib.crc32(name.encode())
    return f"rgb({205 + value % 50},{90 + value // 50 % 120},{40 + value // 6000 % 50})"
