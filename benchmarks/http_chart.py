"""The chart of the README: bars in plain SVG, on a card that suits light and dark pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, ROW, TOP, LABEL, RIGHT, BOTTOM = 760, 28, 78, 215, 130, 34
# A viewer follows the reader's system, not the page: the card brings its own background.
STYLE = """
.card{fill:#ffffff;stroke:#d0d7de}.t{fill:#1f2328}.m{fill:#59636e}
.python{fill:#afb8c1}.native,.limit{fill:#d8dee4}.ours{fill:#0969da}
text{font-family:-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;font-size:13px}
.h{font-size:16px;font-weight:600}.b{font-weight:600}.s{font-size:11px}
@media (prefers-color-scheme:dark){.card{fill:#0d1117;stroke:#30363d}.t{fill:#e6edf3}
.m{fill:#9198a1}.python{fill:#57606a}.native,.limit{fill:#30363d}.ours{fill:#4493f8}}
"""


@dataclass(frozen=True)
class Bar:
    """One server: a value for each kind of load, and its kind (see http_servers)."""

    name: str
    values: tuple[float, ...]
    kind: str


def draw(
    title: str, subtitle: str, legend: Sequence[str], footnote: str, bars: Sequence[Bar]
) -> str:
    """The chart of `bars`, in the order given, as the text of an SVG file."""
    height = TOP + ROW * len(bars) + BOTTOM
    scale = (WIDTH - LABEL - RIGHT) / max(max(bar.values) for bar in bars)
    rows = [_row(bar, TOP + ROW * place, scale) for place, bar in enumerate(bars)]
    loads = "; ".join(f"{place} bar: {text}" for place, text in zip(
        ("upper", "lower"), legend, strict=True))
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
        f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{_quoted(title)}">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>',
        f'<text class="t h" x="20" y="28">{escape(title)}</text>',
        f'<text class="m" x="20" y="48">{escape(subtitle)}</text>',
        f'<text class="m" x="20" y="66">{escape(loads)}</text>',
        *rows,
        f'<text class="m s" x="20" y="{height - 13}">{escape(footnote)}</text>',
        "</svg>",
        "",
    ])


def _row(bar: Bar, y: int, scale: float) -> str:
    weight = " b" if bar.kind == "ours" else ""
    thick = (ROW - 8) / len(bar.values)
    bars = "".join(
        f'<rect class="{bar.kind}" x="{LABEL}" y="{y + 4 + thick * place:.1f}" '
        f'width="{max(1.5, value * scale):.1f}" height="{thick - 1:.1f}" rx="1.5"/>'
        for place, value in enumerate(bar.values))
    words = ", ".join(f"{value:,.0f}" for value in bar.values)
    end = LABEL + max(bar.values) * scale + 7
    return (
        f'<text class="t{weight}" x="{LABEL - 10}" y="{y + 19}" text-anchor="end">'
        f"{escape(bar.name)}</text>{bars}"
        f'<text class="m{weight}" x="{end:.1f}" y="{y + 19}">{words}</text>'
    )


def _quoted(text: str) -> str:
    return escape(text, {'"': "&quot;"})
