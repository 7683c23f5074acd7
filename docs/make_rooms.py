"""Draws docs/rooms.svg: the packages, what is in them, and which imports which.

How to run::

    python docs/make_rooms.py          # writes docs/rooms.svg
    python docs/make_rooms.py --text   # prints the same as text

Nothing is imported of what it draws: files are parsed. Imports of any kind count, those in
functions and under ``TYPE_CHECKING`` too. ``tests/test_docs.py`` compares the file with what
this draws.
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1]
CONTRACT = "contract"  # the modules at the root of the core
CORE = tuple(f"apihour.{name}" for name in (
    "cli", "testing", "arbiter", "orders", "reload", "template", "upgrade", "books", "worker",
    "app", "engines", "cpu", "single", "ops", "config", "tls", "proxied", "bind", "limits", "jobs",
    "presence", "shared", "bus", "ipc", CONTRACT))
PLUGINS = ("apihour_http", "apihour_asgi", "apihour_grpc", "apihour_mux", "apihour_proxy",
           "apihour_ssh", "apihour_tcp", "apihour_wsgi")
CONSOLE = tuple(f"apihour_console.{name}" for name in (
    "process", "faces", "commands", "hosts", "shell", "fleet", "calls", "keys",
    "text"))
_PROCESS = CONSOLE[0]  # the modules at the root of the console
_FIRST_LINES = {
    f"apihour.{CONTRACT}": "What all may use: errors, the contract of plugins, whose fault.",
    _PROCESS: "The console process: it makes the rooms below, and ends with the arbiter.",
}
_OUTSIDE = ("__init__", "__main__")  # they stand before the rooms, not in one

_WIDTH, _GAP, _TOP = 600, 14, 60  # pixels of one room, between two, above the first
_LINE, _LETTERS = 15, 96  # pixels of a line, letters in one: 12-pixel sans is 6 wide
_ARROWS = 170  # pixels beside a tower for its arrows
_COLOURS = {"apihour": "#eef4fb", "apihour_console": "#eef7ec"}
_PLUGIN_COLOUR = "#fbf4e6"


@dataclass
class Room:
    """One package: its first line, its modules, and the rooms it imports from."""

    name: str
    says: str = ""
    modules: dict[str, list[str]] = field(default_factory=dict)  # by sub-package
    imports: set[str] = field(default_factory=set)

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    @property
    def title(self) -> str:
        return self.name.rpartition(".")[2]

    def lines(self) -> list[str]:
        """What stands in its box under the title."""
        said = textwrap.wrap(self.says, _LETTERS)
        for package, modules in sorted(self.modules.items()):
            names = (f"{package}/ " if package else "") + "\u00a0· ".join(sorted(modules))
            said += textwrap.wrap(names, _LETTERS, break_long_words=False)
        if self.package != "apihour":
            core = sorted(name.rpartition(".")[2] for name in self.imports & set(CORE))
            said += textwrap.wrap(f"from the core: {', '.join(core) or 'nothing'}", _LETTERS)
        return said

    @property
    def height(self) -> int:
        return _LINE * len(self.lines()) + 34


def rooms() -> dict[str, Room]:
    """Every room by name, in the order in which they are drawn, the highest first."""
    found = {name: Room(name, _FIRST_LINES.get(name, "")) for name in (*CORE, *PLUGINS, *CONSOLE)}
    files = {_dotted(path): path
             for path in [*ROOT.glob("apihour/**/*.py"), *ROOT.glob("protocols/*/**/*.py")]}
    for dotted, path in sorted(files.items()):
        if (room := _room_of(dotted)) is None:
            continue
        here = found[room]
        if dotted == room and room not in _FIRST_LINES:
            here.says = _first_line(path)
        elif path.stem not in _OUTSIDE:
            package = dotted.removeprefix(room + ".").rpartition(".")[0]
            here.modules.setdefault("" if room in _FIRST_LINES else package, []).append(path.stem)
        here.imports |= {other for name in _imported(path, files)
                         if (other := _room_of(name)) is not None and other != room}
    return found


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[parts[0] == "protocols":]).removesuffix(".__init__")


def _room_of(dotted: str) -> str | None:
    """The room that a module belongs to; None for what stands before them."""
    top, _, rest = dotted.partition(".")
    if top in PLUGINS:
        return top
    if not rest or rest in _OUTSIDE:
        return None
    name = f"{top}.{rest.partition('.')[0]}"
    if top == "apihour":
        return name if name in CORE else f"apihour.{CONTRACT}"
    if top == "apihour_console":
        return name if name in CONSOLE else _PROCESS
    return None


def _first_line(path: Path) -> str:
    text = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n\n")[0]
    text = " ".join(text.split()).replace("``", "")
    return re.sub(r"; (may )?imports? .*", ".", text)  # the picture shows it


def _imported(path: Path, files: dict[str, Path]) -> Iterator[str]:
    """The modules that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for one in node.names:
                whole = f"{node.module}.{one.name}"
                yield whole if whole in files else node.module
        elif isinstance(node, ast.Import):
            yield from (one.name for one in node.names)


def as_text(found: dict[str, Room]) -> str:
    """The rooms as lines."""
    lines = []
    for room in found.values():
        modules = [f"{package}/{name}" if package else name
                   for package, names in sorted(room.modules.items()) for name in sorted(names)]
        lines += [f"{room.name}: {room.says}", f"    {' '.join(modules)}",
                  f"    imports {' '.join(sorted(room.imports)) or 'nothing'}"]
    return "\n".join(lines) + "\n"


def as_svg(found: dict[str, Room]) -> str:
    """The core as a tower at the left, its arrows beside it; plugins and console at the right."""
    right = _ARROWS + _WIDTH + 50
    core = [found[name] for name in CORE]
    plugins = [found[name] for name in PLUGINS]
    console = [found[name] for name in CONSOLE]
    left, low = _tower(core, _ARROWS, _TOP, outward=-1)
    boxes, below = _tower(plugins, right, _TOP, outward=1)
    more, lowest = _tower(console, right, below + 40, outward=1)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right + _WIDTH + _ARROWS} '
        f'{max(low, lowest)}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        _title(_ARROWS, 40, "apihour: each room imports from those below it"),
        _title(right, 40, "protocols: each by itself"),
        _title(right, below + 26, "apihour_console: each room imports from those below it"),
        *left, *boxes, *more, "</svg>", ""])


def _title(x: int, y: int, text: str) -> str:
    return f'<text x="{x}" y="{y}" font-size="17">{escape(text)}</text>'


def _tower(members: list[Room], x: int, y: int, outward: int) -> tuple[list[str], int]:
    """Rooms above one another and the arrows at one side of them; and where they end."""
    parts: list[str] = []
    middles: dict[str, int] = {}
    for room in members:
        parts += _box(room, x, y)
        middles[room.name] = y + room.height // 2
        y += room.height + _GAP
    edge = x if outward < 0 else x + _WIDTH
    pairs = [(middles[room.name], middles[other]) for room in members
             for other in sorted(room.imports & middles.keys(), key=lambda one: middles[one])]
    return parts + [_arrow(edge, start, end, outward) for start, end in pairs], y


def _box(room: Room, x: int, y: int) -> Iterator[str]:
    colour = _COLOURS.get(room.package, _PLUGIN_COLOUR)
    yield (f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{room.height}" rx="6" '
           f'fill="{colour}" stroke="#8899aa"/>')
    yield f'<text x="{x + 12}" y="{y + 20}" font-size="15" font-weight="bold">{room.title}</text>'
    said = len(textwrap.wrap(room.says, _LETTERS))
    for number, line in enumerate(room.lines()):
        yield (f'<text x="{x + 12}" y="{y + 38 + _LINE * number}" '
               f'fill="{"#222222" if number < said else "#666666"}">{escape(line)}</text>')


def _arrow(edge: int, start: int, end: int, outward: int) -> str:
    """A bow from one room to another, the wider the farther; red against the order."""
    colour = "#3b6ea5" if end > start else "#c0392b"
    out = edge + outward * min(_ARROWS * 4 // 3 - 10, 20 + abs(end - start) // 4)
    tip = edge + outward * 7
    return (f'<path d="M {edge} {start - 6} C {out} {start - 6}, {out} {end + 6}, {edge} {end + 6} '
            f'M {tip} {end + 2} L {edge} {end + 6} L {tip} {end + 10}" fill="none" '
            f'stroke="{colour}" stroke-opacity="0.55"/>')


def main() -> None:
    """Write the picture, or print the text."""
    found = rooms()
    if "--text" in sys.argv:
        print(as_text(found), end="")
        return
    (ROOT / "docs" / "rooms.svg").write_text(as_svg(found))


if __name__ == "__main__":
    main()
