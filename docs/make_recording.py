"""Makes ``docs/pictures/recording.svg``: a stuck worker found and replaced, in half a minute.

``python docs/make_recording.py`` starts a daemon with four workers, blocks one of them, and types
into the shell what an operator would; the picture plays what the terminal showed. It needs the
``ssh`` command and ``pip install pyte``.

A row of the screen is one element for as long as it does not change, shown and hidden by SMIL
(https://www.w3.org/TR/SVG11/animate.html), which plays where a picture is an ``<img>`` as well.
What does not play it shows the last screen.
"""

from __future__ import annotations

import tempfile
import threading
import time
from dataclasses import dataclass
from html import escape
from pathlib import Path

from make_shell_pictures import (
    BACKGROUND,
    COLUMNS,
    HEIGHT,
    PICTURES,
    ROWS,
    WIDTH,
    Terminal,
    ask_for_trouble,
    daemon,
    draw_row,
    load,
    login,
)

LAST = 4.0  # seconds that the end stands before it begins anew
TITLE = "A worker hangs: found, looked into and replaced from the shell"


@dataclass(frozen=True)
class Shown:
    """A row of the screen, from one time to another, in seconds."""

    row: int
    begin: float
    end: float
    drawing: str


class Recorder(Terminal):
    """A terminal that remembers when each row showed what."""

    def __init__(self, command: list[str]) -> None:
        super().__init__(command)
        self.shown: list[Shown] = []
        self._since: dict[int, tuple[float, str]] = {}
        self._began: float | None = None

    def type(self, text: str, seconds: float = 1.0) -> None:
        """Type at a pace that can be followed, then watch."""
        for character in text:
            super().type(character, 0.06)
        self.watch(seconds)

    def start(self) -> None:
        """Record from now on."""
        self._began = time.monotonic()
        self.look()

    def look(self) -> None:
        """Note what has changed on the screen."""
        if self._began is None:
            return
        now = time.monotonic() - self._began
        for row in range(ROWS):
            drawing = "".join(draw_row(self.screen, row))
            begin, before = self._since.get(row, (0.0, ""))
            if drawing != before:
                self._note(row, begin, now, before)
                self._since[row] = now, drawing

    def finish(self) -> float:
        """End what stands on the screen; returns how long the recording is, in seconds."""
        assert self._began is not None
        end = time.monotonic() - self._began + LAST
        for row, (begin, drawing) in self._since.items():
            self._note(row, begin, end, drawing)
        return end

    def _note(self, row: int, begin: float, end: float, drawing: str) -> None:
        if drawing and end - begin > 0.01:
            self.shown.append(Shown(row, begin, end, drawing))


def svg(shown: list[Shown], length: float) -> str:
    """The recording as an SVG picture that plays again and again."""
    width, height = (COLUMNS + 2) * WIDTH, (ROWS + 1.2) * HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" role="img" aria-label="{escape(TITLE)}">',
        f"<title>{escape(TITLE)}</title>",
        f'<rect width="100%" height="100%" rx="6" fill="{BACKGROUND}">'
        f'<animate id="film" attributeName="opacity" from="1" to="1" begin="0s;film.end" '
        f'dur="{length:.2f}s"/></rect>',
        '<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" '
        'xml:space="preserve">',
    ]
    for one in shown:
        if one.end >= length:  # of the last screen: hidden until it is its turn
            state, change, begin, end = "visible", "hidden", 0.0, one.begin
        else:
            state, change, begin, end = "hidden", "visible", one.begin, one.end
        lines.append(f'<g visibility="{state}">{one.drawing}')
        if end > begin:
            lines.append(f'<set attributeName="visibility" to="{change}" '
                         f'begin="film.begin+{begin:.2f}s" dur="{end - begin:.2f}s"/>')
        lines.append("</g>")
    return "\n".join([*lines, "</g>", "</svg>", ""])


def main() -> None:
    """Make the recording."""
    stopped = threading.Event()
    with tempfile.TemporaryDirectory() as name, daemon(Path(name)) as (shell, web, key):
        clients = [threading.Thread(target=load, args=(web, stopped)) for _ in range(6)]
        for client in clients:
            client.start()
        time.sleep(3)  # so that there are figures to see
        threading.Thread(target=ask_for_trouble, args=(web,), daemon=True).start()
        time.sleep(3)
        terminal = Recorder(login(shell, key))
        try:
            _play(terminal)
        finally:
            terminal.close()
            stopped.set()
            for client in clients:
                client.join()
    PICTURES.mkdir(exist_ok=True)
    picture = svg(terminal.shown, terminal.finish())
    (PICTURES / "recording.svg").write_text(picture, encoding="utf-8")


def _play(terminal: Recorder) -> None:
    terminal.watch(10, until="hello>")
    terminal.start()
    terminal.watch(1)
    terminal.type("workers\r", 3)
    stuck = next(line.split()[0] for line in terminal.screen.display if "stuck" in line)
    terminal.type(f"stack {stuck}\r", 3)
    terminal.type(f"restart {stuck.partition('.')[0]}\r", 0)
    terminal.watch(30, until="OUTCOME")
    terminal.watch(3)
    terminal.type("workers\r", 2)


if __name__ == "__main__":
    main()
