"""A terminal over a channel: decoding, waiting input, flow control, interrupts."""

from __future__ import annotations

from apihour_console.text.terminal import Terminal


class Channel:
    def __init__(self) -> None:
        self.written = b""
        self.paused = 0
        self.resumed = 0
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return len(self.written)

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.resumed += 1


def test_utf8_cut_anywhere_is_put_together() -> None:
    terminal, seen = Terminal(Channel()), []
    terminal.attach(seen.append)
    for byte in "é→世".encode():
        terminal.feed(bytes([byte]))
    terminal.feed(b"\xff!")
    assert "".join(seen) == "é→世\ufffd!"


def test_what_is_typed_ahead_waits_and_is_bounded() -> None:
    channel = Channel()
    terminal, seen = Terminal(channel), []
    terminal.feed(b"ahead ")
    for _ in range(7):
        terminal.feed(b"x" * 10_000)
    assert channel.paused == 1
    terminal.attach(seen.append)
    assert "".join(seen) == "ahead " + "x" * 70_000
    assert channel.resumed == 1
    terminal.detach()
    terminal.feed(b"later")
    assert seen[-1] != "later"


def test_control_c_reaches_a_command_and_drops_what_waits() -> None:
    channel = Channel()
    terminal, hits, seen = Terminal(channel), [], []
    terminal.interrupted = lambda: hits.append(1)
    terminal.feed(b"x" * 70_000)
    terminal.feed(b"typed\x03after")
    assert hits == [1] and channel.resumed == 1
    terminal.interrupted = None
    terminal.attach(seen.append)
    assert seen == ["after"]


def test_newlines_sizes_and_abilities() -> None:
    channel = Channel()
    terminal = Terminal(channel, "xterm", (0, 0))
    assert (terminal.columns, terminal.rows, terminal.colour) == (80, 24, True)
    terminal.write("a\nb\r\nc")
    assert channel.written == b"a\r\nb\r\nc"
    terminal.resize(100_000, 1)
    assert (terminal.columns, terminal.rows) == (1000, 5)
    assert not Terminal(channel, "xterm", (80, 24), {"NO_COLOR": "1"}).colour
    assert Terminal(channel, "dumb").is_dumb and not Terminal(channel, "dumb").colour
    terminal.closed = True
    terminal.write("gone")
    assert not channel.written.endswith(b"gone")


def test_a_client_that_reads_nothing_is_cut_off() -> None:
    channel = Channel()
    terminal = Terminal(channel, "xterm")
    for _ in range(100):
        terminal.write("x" * 100_000)
    assert channel.aborted and len(channel.written) < 5_000_000
