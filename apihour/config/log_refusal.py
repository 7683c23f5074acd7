"""Why a configuration of the log is refused."""

from __future__ import annotations

from typing import Any

from apihour.errors import ConfigurationError

__all__ = ["log_refusal"]


def log_refusal(cfg: Any, error: Exception) -> ConfigurationError:
    """One line for what setting a log up has raised.

    That may be anything: fileConfig raises KeyError, configparser's errors, OSError...
    """
    return ConfigurationError(f"{_source(cfg)}: {_one_line(error)}")


def _source(cfg: Any) -> str:
    for option, path in (("--log-config", cfg.logconfig),
                         ("--log-config-json", cfg.logconfig_json)):
        if path:
            return f"{option} {path!r}"
    if cfg.logconfig_dict:
        return "logconfig_dict"
    return f"--log-syslog-to {cfg.syslog_addr!r}" if cfg.syslog else "logging"


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).removeprefix("Error: ").split())
    return text if isinstance(error, RuntimeError) else f"{type(error).__name__}: {text}"
