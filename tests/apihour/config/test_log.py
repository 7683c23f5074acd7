"""The logger of the daemon, and a log that cannot be written."""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Any

import pytest

from apihour.config import log as module
from apihour.config.log import HostLogger
from apihour.config.settings import HostConfig
from apihour.errors import ConfigurationError
from tests.apihour.loggers import loggers

__all__ = ["loggers"]

Captured = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("loggers")


def make(**options: Any) -> HostLogger:
    cfg = HostConfig()
    for name, value in options.items():
        cfg.set(name, value)
    return HostLogger(cfg)


class Full:
    """A stream on a full disk, until there is room again."""

    def __init__(self) -> None:
        self.full = True
        self.text = ""

    def write(self, text: str) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.text += text

    def flush(self) -> None: ...


def put(logger: HostLogger, stream: Full) -> None:
    for handler in logger.error_log.handlers:
        if isinstance(handler, logging.StreamHandler) and getattr(handler, "_gunicorn", False):
            handler.setStream(stream)


def test_lines_go_where_they_are_sent(tmp_path: Path) -> None:
    logger = make(errorlog=str(tmp_path / "error"), accesslog=str(tmp_path / "access"))
    logger.info("hello %s", "there")
    logger.access_log.info("GET /")
    assert "hello there" in (tmp_path / "error").read_text()
    assert (tmp_path / "access").read_text().endswith("GET /\n")


def test_a_full_disk_costs_lines_and_says_so_once_in_a_while(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger, stream = make(), Full()
    put(logger, stream)
    capsys.readouterr()
    for _ in range(1000):
        logger.error("lost")
    err = capsys.readouterr().err
    assert err == ("apihour: cannot write the log: [Errno 28] No space left on device; "
                   "1 line lost\n")
    assert logger.lost_lines.count == 1000
    monkeypatch.setattr(module, "_SAY_EVERY", 0.0)
    logger.error("lost")
    assert "1001 lines lost" in capsys.readouterr().err


def test_it_is_over_by_itself_when_there_is_room(capsys: Captured) -> None:
    logger, stream = make(), Full()
    put(logger, stream)
    logger.error("lost")
    stream.full = False
    logger.error("kept")
    assert "kept" in stream.text and "lost" not in stream.text


def test_with_stderr_full_as_well_nothing_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    logger, stream = make(), Full()
    put(logger, stream)
    monkeypatch.setattr(module.sys, "stderr", Full())
    logger.error("lost")
    monkeypatch.setattr(module.sys, "stderr", None)
    logger.error("lost")
    assert logger.lost_lines.count == 2


def test_the_count_survives_a_reload(capsys: Captured) -> None:
    logger, stream = make(), Full()
    put(logger, stream)
    logger.error("lost")
    logger.setup(HostConfig())
    put(logger, stream)
    logger.error("lost")
    assert logger.lost_lines.count == 2


@pytest.mark.parametrize(("options", "files", "message"), [
    ({"logconfig": "logging.ini"}, {"logging.ini": "[nothing]\n"}, "--log-config 'logging.ini': "),
    ({"logconfig": "missing.ini"}, {}, "--log-config 'missing.ini': "),
    ({"logconfig_json": "log.json"}, {"log.json": "{"}, "--log-config-json 'log.json': "),
    ({"errorlog": "no/log"}, {}, "--error-logfile 'no/log': No such file or directory; "
                                 "expected a file that can be written"),
    ({"accesslog": "."}, {}, "--access-logfile '.': Is a directory; "
                             "expected a file that can be written"),
    ({"logconfig_dict": {"version": 9}}, {}, "logconfig_dict: "),
    ({"logconfig_json": "gone.json"}, {}, "--log-config-json 'gone.json': expected an existing"),
    ({"syslog": True, "syslog_addr": "tcp://127.0.0.1:1"}, {},
     "--log-syslog-to 'tcp://127.0.0.1:1': ConnectionRefusedError: "),
])
def test_a_bad_logging_configuration_is_one_line(
    options: dict[str, Any], files: dict[str, str], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        make(**options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
