"""The ``etc/NAME/`` tree, and the sections of its ``main.yaml`` that are servers'.

::

    etc/NAME/
    ├── api_hour/gunicorn_conf.py      options, as Python assignments
    ├── api_hour/logging.ini           logging.config.fileConfig
    └── main/main.yaml                 Container.config; other *.yaml beside it add a section
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from apihour.errors import ConfigurationError

__all__ = ["ConfigTree", "server_options"]

class ConfigTree:
    """One ``etc/NAME`` directory; it may hold any of its files, or none."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @classmethod
    def find(cls, name: str, config_dir: str | None, auto: bool) -> ConfigTree | None:
        """The tree that ``--config_dir`` names or ``-ac`` finds, else None.

        Raises ConfigurationError when one was asked for and is not there.
        """
        if config_dir is not None:
            if not os.path.isdir(config_dir):
                raise ConfigurationError(
                    f"--config_dir {config_dir!r}: expected an existing directory"
                )
            return cls(os.path.abspath(config_dir))
        if not auto:
            return None
        tried = [Path.cwd() / "etc" / name, Path("/etc") / name]
        for path in tried:
            if path.is_dir():
                return cls(path)
        raise ConfigurationError(
            f"-ac: no configuration directory for {name!r}; looked for "
            + " and ".join(str(path) for path in tried)
        )

    @property
    def options_file(self) -> Path | None:
        path = self.path / "api_hour" / "gunicorn_conf.py"
        return path if path.is_file() else None

    @property
    def logging_file(self) -> Path | None:
        path = self.path / "api_hour" / "logging.ini"
        return path if path.is_file() else None

    def load(self) -> dict[str, Any]:
        """Return the container's configuration. Raises ConfigurationError with one line."""
        config: dict[str, Any] = {}
        for path in sorted((self.path / "main").glob("*.y*ml")) + sorted(
            (self.path / "main").glob("*.json")
        ):
            content = _read(path)
            if path.stem == "main":
                config = {**config, **content}
            else:
                config.setdefault(path.stem, content)
        return config


def server_options(
    config: Mapping[str, Any], name: str, known: Iterable[str], server: Any
) -> dict[str, Any]:
    """The section ``servers: NAME:`` of a container's configuration; empty where there is none.

    `known` are the names of all servers. Raises ConfigurationError for what would be ignored
    for ever, a section of another name or options of a `server` that takes none, and for what
    is no mapping.
    """
    sections = config.get("servers")
    if sections is None:
        return {}
    if not isinstance(sections, dict):
        raise ConfigurationError(
            f"servers: {sections!r}; expected a mapping of server name to options"
        )
    names = list(known)
    for given in sections:
        if given not in names:
            raise ConfigurationError(f"servers: {given!r}: expected one of {', '.join(names)}")
    options = sections.get(name)
    if options is not None and not isinstance(options, dict):
        raise ConfigurationError(
            f"servers: {name!r}: {options!r}; expected a mapping of option to value"
        )
    # What is asked of its connections is the host's: apihour.limits.layers has it.
    options = {key: value for key, value in (options or {}).items() if key != "bind_options"}
    if options and not getattr(server, "takes_options", False):
        raise ConfigurationError(
            f"servers: {name!r}: {next(iter(options))!r}; expected no options, a server of "
            f"{server.protocol} takes none here"
        )
    return options


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"config file {str(path)!r}: {error.strerror}; expected a file that can be read"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"config file {str(path)!r}: {error}; expected a text in UTF-8") from error
    try:
        content = json.loads(text) if path.suffix == ".json" else _parse_yaml(path, text)
    except ValueError as error:
        raise ConfigurationError(f"config file {str(path)!r}: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigurationError(
            f"config file {str(path)!r}: holds {type(content).__name__}; expected a mapping"
        )
    return content


def _parse_yaml(path: Path, text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError(
            f"config file {str(path)!r}: reading YAML needs PyYAML: "
            "pip install 'apihour[standard]'"
        ) from error
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
