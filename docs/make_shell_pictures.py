"""Make the pictures of ``docs/shell.rst`` from a real session.

``python docs/make_shell_pictures.py`` starts a daemon with four workers, loads it, logs in
with OpenSSH's client on a pseudo-terminal, types, and writes what the screen shows as SVG to
``docs/pictures/``. It needs the ``ssh`` command and ``pip install pyte``.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path

import pyte

COLUMNS, ROWS = 108, 26
PICTURES = Path(__file__).parent / "pictures"
APPLICATION = '''\
import time

import apihour
from apihour_http import HTTPServer, Routes

routes = Routes()


@routes.get("/hello/{name}")
async def hello(request):
    return {"hello": request.match_info["name"]}


@routes.get("/report")
async def report(request):
    time.sleep(30)  # the mistake of the night
    return {"report": "done"}


class Container(apihour.Container):
    binds = {"http": "127.0.0.1:0"}

    def make_servers(self):
        return {"http": HTTPServer(routes)}
'''
COLOURS = {
    "default": "#d8dee9", "black": "#3b4252", "red": "#bf616a", "green": "#a3be8c",
    "brown": "#ebcb8b", "blue": "#81a1c1", "magenta": "#b48ead", "cyan": "#88c0d0",
    "white": "#e5e9f0",
}
BACKGROUND = "#2e3440"
# Where this machine keeps the checkout and temporary files is nobody's business.
_SOMEWHERE = re.compile("|".join((
    re.escape(str(Path(__file__).resolve().parents[1])),
    re.escape(tempfile.gettempdir()) + "/[^/]+",
)))
WIDTH, HEIGHT = 8.4, 17  # of one character, in pixels, at font size 14


class Terminal:
    """An ssh client on a pseudo-terminal, and the screen it draws."""

    def __init__(self, command: list[str]) -> None:
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(slave)

    def watch(self, seconds: float, until: str = "") -> None:
        """Draw what comes for that time, or until the screen shows `until`."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if select.select([self._master], [], [], 0.05)[0]:
                data = os.read(self._master, 65536)
                # pyte has no second screen; clearing the one there is looks the same.
                self._stream.feed(data.replace(b"\x1b[?1049h", b"\x1b[2J\x1b[H"))
                self.look()
            if until and any(until in line for line in self.screen.display):
                return

    def look(self) -> None:
        """Called whenever the screen may have changed."""

    def type(self, text: str, seconds: float = 1.0) -> None:
        """Type like a person who is in a hurry, then watch."""
        for character in text:
            os.write(self._master, character.encode())
            self.watch(0.02)
        self.watch(seconds)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)


def svg(screen: pyte.Screen, title: str) -> str:
    """The screen as an SVG picture."""
    rows = [index for index, line in enumerate(screen.display) if line.strip()]
    height = ((rows[-1] if rows else 0) + 2.6) * HEIGHT
    width = (COLUMNS + 2) * WIDTH
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="100%" height="100%" rx="6" fill="{BACKGROUND}"/>',
        '<g font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="14" '
        'xml:space="preserve">',
    ]
    for row in rows:
        lines += draw_row(screen, row)
    return "\n".join([*lines, "</g>", "</svg>", ""])


def draw_row(screen: pyte.Screen, row: int) -> Iterator[str]:
    """The elements of one row of the screen."""
    y = (row + 1.5) * HEIGHT
    start = 0
    cells = [screen.buffer[row][column] for column in range(COLUMNS)]
    while start < COLUMNS:
        cell, end = cells[start], start + 1
        style = (cell.fg, cell.bg, cell.bold, cell.reverse)
        while end < COLUMNS and style == (
            cells[end].fg, cells[end].bg, cells[end].bold, cells[end].reverse
        ):
            end += 1
        text = _SOMEWHERE.sub("/srv", "".join(one.data for one in cells[start:end])).rstrip()
        colour = COLOURS.get(cell.fg, f"#{cell.fg}")
        x = (start + 1) * WIDTH
        if cell.reverse or cell.bg != "default":
            fill = colour if cell.reverse else COLOURS.get(cell.bg, f"#{cell.bg}")
            yield (f'<rect x="{x:.1f}" y="{y - HEIGHT * 0.77:.1f}" height="{HEIGHT}" '
                   f'width="{(end - start) * WIDTH:.1f}" fill="{fill}"/>')
            colour = BACKGROUND if cell.reverse else colour
        x += (len(text) - len(text.lstrip())) * WIDTH
        text = text.lstrip()
        if text:
            weight = ' font-weight="bold"' if cell.bold else ""
            yield (f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{weight} '
                   f'textLength="{len(text) * WIDTH:.1f}">{escape(text)}</text>')
        start = end


@contextlib.contextmanager
def daemon(directory: Path) -> Iterator[tuple[int, int, Path]]:
    """A running daemon: the ports of its shell and of HTTP, and the admin's private key."""
    (directory / "app.py").write_text(APPLICATION)
    key = directory / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ada", "-f", key],
                   check=True)
    apihour = [sys.executable, "-m", "apihour"]
    subprocess.run([*apihour, "keys", "add", f"{key}.pub", "--role", "admin"], check=True,
                   cwd=directory, stdout=subprocess.DEVNULL)
    log = directory / "log"
    with open(log, "wb") as output:
        process = subprocess.Popen(
            [*apihour, "app:Container", "-w", "4", "--console", "127.0.0.1:0", "-n", "hello"],
            cwd=directory, stderr=output, stdout=output,
        )
    try:
        yield *_ports(log), key
    finally:
        process.terminate()
        process.wait()


def _ports(log: Path) -> tuple[int, int]:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        text = log.read_text()
        shell, web = re.search(r"shell: ssh .* -p (\d+)", text), re.search(r"http=\S+:(\d+)", text)
        if shell and web and text.count(" ready ") >= 4:
            return int(shell[1]), int(web[1])
        time.sleep(0.1)
    raise SystemExit(f"the daemon did not start:\n{log.read_text()}")


def load(port: int, stopped: threading.Event) -> None:
    """A client that asks, pauses and asks again."""
    while not stopped.is_set():
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
            for number in range(400):
                connection.request("GET", f"/hello/{number}")
                connection.getresponse().read()
                if stopped.wait(0.004):
                    break
            connection.close()


def ask_for_trouble(port: int) -> None:
    """One request that blocks its worker."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/report")
        connection.getresponse()


def login(shell: int, key: Path) -> list[str]:
    """The command that logs into the shell on that port."""
    return ["ssh", "-F", "/dev/null", "-i", str(key), "-p", str(shell), "-tt",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
            "-o", "LogLevel=ERROR", "-o", "IdentitiesOnly=yes", "ada@127.0.0.1"]


def main() -> None:
    """Make all pictures."""
    PICTURES.mkdir(exist_ok=True)
    stopped = threading.Event()
    with tempfile.TemporaryDirectory() as name, daemon(Path(name)) as (shell, web, key):
        clients = [threading.Thread(target=load, args=(web, stopped)) for _ in range(6)]
        for client in clients:
            client.start()
        terminal = Terminal(login(shell, key))
        try:
            _session(terminal, web)
        finally:
            terminal.close()
            stopped.set()
            for client in clients:
                client.join()


def _session(terminal: Terminal, web: int) -> None:
    def save(name: str, title: str) -> None:
        (PICTURES / f"{name}.svg").write_text(svg(terminal.screen, title), encoding="utf-8")

    terminal.watch(10, until="hello>")
    terminal.type("workers\r", 1)
    terminal.type("servers\r", 1)
    terminal.type("conns --limit 3 --sort -age\r", 1)
    terminal.type("h\t", 1)
    save("shell", "An interactive session: workers, servers, conns, and completion")
    terminal.type("\x03", 0.5)
    terminal.type("top\r", 12)
    save("top", "top: workers and servers, refreshed every second")
    terminal.type("q", 1)
    threading.Thread(target=ask_for_trouble, args=(web,), daemon=True).start()
    terminal.watch(3)
    terminal.type("\x0c", 0.5)
    terminal.type("workers\r", 1)
    stuck = next(line.split()[0] for line in terminal.screen.display if "stuck" in line)
    terminal.type(f"stack {stuck}\r", 1.5)
    save("stuck", "A worker that hangs, and the line it hangs on")


if __name__ == "__main__":
    main()
