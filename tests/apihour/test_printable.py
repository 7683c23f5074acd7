"""What is logged may quote a peer: it is readable, and steers no terminal."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

import pytest

from apihour.cli.main import main
from apihour.config.log import HostLogger
from apihour.config.settings import HostConfig
from apihour.errors import ConfigurationError
from apihour.printable import PrintableFormatter, printable
from tests.apihour.loggers import loggers

__all__ = ["loggers"]

pytestmark = pytest.mark.usefixtures("loggers")
HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\x00\x7f\x9b31m\u202e\udc80 ü 😀"
ESCAPED = r"a\x1b[2J\x1b]0;title\x07\r\x00\x7f\x9b31m\u202e\udc80 ü 😀"


def test_controls_are_escaped_and_nothing_else() -> None:
    assert printable(HOSTILE) == ESCAPED
    assert printable("line\n\tindented\\x1b") == "line\n\tindented\\x1b"
    for code in range(0x110000):
        shown = printable(chr(code))
        assert shown == chr(code) or shown.startswith("\\"), hex(code)
        if code < 32 or 127 <= code < 160:
            assert (shown == chr(code)) is (chr(code) in "\n\t")


def test_messages_and_tracebacks_of_the_log(tmp_path: Path) -> None:
    cfg = HostConfig()
    cfg.set("errorlog", str(tmp_path / "error"))
    cfg.set("accesslog", str(tmp_path / "access"))
    logger = HostLogger(cfg)
    logger.setup(cfg)  # as after a reload
    logger.access_log.info("%s", HOSTILE)
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logger.exception("it failed: %s", HOSTILE)
    record = logging.LogRecord("an.application", logging.ERROR, "", 0, HOSTILE, (), None)
    logger.fallback.handle(record)  # of whom nobody has a handler for
    for name, times in (("access", 1), ("error", 3)):
        text = (tmp_path / name).read_text("utf-8")
        assert text.count(ESCAPED) == times, text
        assert text.replace("\n", "").isprintable()
    assert '\n  File "' in (tmp_path / "error").read_text("utf-8")
    assert logger.lost_lines.count == 0  # a lone surrogate cost the line


def test_the_formatter_keeps_what_the_inner_one_makes() -> None:
    formatter = PrintableFormatter(logging.Formatter("%(levelname)s|%(message)s"))
    record = logging.LogRecord("x", logging.INFO, "", 0, "\x1b", (), None)
    assert formatter.format(record) == "INFO|\\x1b"


def test_a_traceback_from_elsewhere_is_printed_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(words: list[str]) -> int:
        try:
            raise ValueError(HOSTILE)
        except ValueError as inner:
            error = ConfigurationError("it cannot be served")
            error.detail = "".join(traceback.format_exception(inner))
            raise error from inner

    monkeypatch.setattr("apihour.cli.main._dispatch", fail)
    assert main(["run", "--debug"]) == 1
    err = capsys.readouterr().err
    assert err.count(ESCAPED) == 2
    assert "\x1b" not in err
