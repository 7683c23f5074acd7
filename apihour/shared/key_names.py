"""A key of the embedded store as the name of a file."""

from __future__ import annotations

from apihour.shared.backend import check_key

__all__ = ["key_of", "name_of"]


def name_of(key: str, prefix: bool = False) -> bytes:
    """The file name of a key. Control characters are refused, so two can stand for others."""
    name = check_key(key, prefix).replace(b"/", b"\x01")
    return b"\x02" + name[1:] if name.startswith(b".") else name


def key_of(name: bytes) -> str:
    """The key whose file name that is."""
    name = name.replace(b"\x01", b"/")
    return (b"." + name[1:] if name.startswith(b"\x02") else name).decode()
