"""The curves of fleet.py: small panels of plain SVG, both axes from nought, straight is linear."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT, TOP, EDGE = 760, 300, 62, 20
PLOT, TALL = 168, 150  # of one panel's axes
# A viewer follows the reader's system, not the page: the card brings its own background.
STYLE = """
.card{fill:#ffffff;stroke:#d0d7de}.t{fill:#1f2328}.m{fill:#59636e}.axis{stroke:#d0d7de}
text{font-family:-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;font-size:12px}
.h{font-size:16px;font-weight:600}.b{font-size:13px;font-weight:600}.s{font-size:11px}
path{fill:none;stroke-width:2}.c0{stroke:#0969da}.c1{stroke:#1a7f37}.c2{stroke:#bc4c00}
.d0{fill:#0969da}.d1{fill:#1a7f37}.d2{fill:#bc4c00}
@media (prefers-color-scheme:dark){.card{fill:#0d1117;stroke:#30363d}.t{fill:#e6edf3}
.m{fill:#9198a1}.axis{stroke:#30363d}.c0{stroke:#4493f8}.c1{stroke:#3fb950}.c2{stroke:#db6d28}
.d0{fill:#4493f8}.d1{fill:#3fb950}.d2{fill:#db6d28}}
"""


@dataclass(frozen=True)
class Panel:
    """One quantity: for each name of a curve, its value at each number of hosts."""

    title: str
    unit: str
    curves: Mapping[str, Sequence[tuple[int, float]]]


def draw(title: str, subtitle: str, panels: Sequence[Panel]) -> str:
    """The chart of `panels`, side by side, as the text of an SVG file."""
    step = (WIDTH - 2 * EDGE) / len(panels)
    inner = "\n".join(line for place, panel in enumerate(panels)
                      for line in _panel(panel, EDGE + place * step + 44))
    quoted = escape(title, {'"': "&quot;"})
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" \
viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{quoted}">
<title>{escape(title)}</title>
<style>{STYLE}</style>
<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>
<text class="t h" x="{EDGE}" y="28">{escape(title)}</text>
<text class="m" x="{EDGE}" y="48">{escape(subtitle)}</text>
{inner}
</svg>
"""


def _panel(panel: Panel, left: float) -> list[str]:
    top = TOP + 26
    bottom = top + TALL
    points = [point for curve in panel.curves.values() for point in curve]
    most_x, most_y = max(x for x, _ in points), _round_up(max(y for _, y in points))
    across, up = PLOT / most_x, TALL / most_y
    lines = [f'<text class="t b" x="{left:.0f}" y="{TOP + 12}">{escape(panel.title)}</text>']
    for part in (0.0, 0.5, 1.0):
        y = bottom - TALL * part
        lines += [f'<path class="axis" d="M{left:.1f} {y:.1f}h{PLOT}" stroke-width="1"/>',
                  f'<text class="m s" x="{left - 6:.0f}" y="{y + 4:.0f}" text-anchor="end">'
                  f"{_text(most_y * part)}</text>",
                  f'<text class="m s" x="{left + PLOT * part:.0f}" y="{bottom + 16:.0f}" '
                  f'text-anchor="middle">{most_x * part:,.0f}</text>']
    lines.append(f'<text class="m s" x="{left + PLOT / 2:.0f}" y="{bottom + 30:.0f}" '
                 f'text-anchor="middle">hosts</text>')
    for number, (name, curve) in enumerate(panel.curves.items()):
        path = " L".join(f"{left + x * across:.1f} {bottom - y * up:.1f}" for x, y in curve)
        lines.append(f'<path class="c{number}" d="M{path}"/>')
        lines += [f'<circle class="d{number}" r="2.5" cx="{left + x * across:.1f}" '
                  f'cy="{bottom - y * up:.1f}"/>' for x, y in curve]
        if len(panel.curves) > 1:
            lines.append(f'<text class="d{number}" x="{left + 6:.0f}" '
                         f'y="{top + 10 + 15 * number}">{escape(name)}: '
                         f"{_text(curve[-1][1])} {escape(panel.unit)}</text>")
    return lines


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 4, 5, 8 times a power of ten."""
    power = 10.0 ** (len(str(int(value))) - 1) if value >= 1 else 0.1
    return next((power * step for step in (1, 2, 2.5, 4, 5, 8) if power * step >= value),
                10 * power)


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"
