"""Where the value of an option is kept that nobody else shall read.

Instead of the value itself, ``env:NAME`` names a variable of the environment, ``file:PATH`` a
file, ``credential:NAME`` one that systemd's LoadCredential= has placed (systemd.exec(5)). It is
read when the engine starts; the newline at its end is not part of it.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["read_secret"]

_LONGEST = 65536  # bytes of a file that is a URL or a password
_EXPECTED = "a value, env:NAME, file:PATH or credential:NAME"


def read_secret(text: str) -> str:
    """The value that `text` is, or says the place of. Raises ValueError naming the place."""
    kind, _, place = text.partition(":")
    if kind == "env":
        value = os.environ.get(place)
        if value is None:
            raise ValueError(f"{text}: the variable is not set; expected {_EXPECTED}")
        return value.rstrip("\r\n")
    if kind == "file":
        return _of_file(text, place)
    if kind == "credential":
        directory = os.environ.get("CREDENTIALS_DIRECTORY")
        if directory is None:
            raise ValueError(f"{text}: CREDENTIALS_DIRECTORY is not set; expected a service of "
                             f"systemd with LoadCredential={place}:PATH")
        if not place or "/" in place:
            raise ValueError(f"{text}: expected credential:NAME, as LoadCredential= calls it")
        return _of_file(text, os.path.join(directory, place))
    return text


def _of_file(text: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LONGEST + 1)
        value = data.decode().rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"{text}: {error.strerror}; expected a file that can be read") from None
    except UnicodeDecodeError:
        raise ValueError(f"{text}: expected a text in UTF-8") from None
    if not value or len(data) > _LONGEST:
        raise ValueError(f"{text}: {len(data)} bytes; expected 1 to {_LONGEST}")
    return value
