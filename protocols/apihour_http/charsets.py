"""Text of a client in the character set that it names.

Rule: only character sets. Python has codecs that are none (``punycode``, ``unicode_escape``): some
take time that grows with the square of the text, and a client may name any.
"""

from __future__ import annotations

import codecs

__all__ = ["decoded"]

# https://docs.python.org/3/library/codecs.html#python-specific-encodings
_NO_CHARSETS = frozenset({
    "idna", "mbcs", "oem", "palmos", "punycode", "raw-unicode-escape", "undefined",
    "unicode-escape",
})


def decoded(data: bytes, charset: str) -> str:
    """`data` as text. Raises LookupError for what is no character set, UnicodeDecodeError."""
    if codecs.lookup(charset).name.replace("_", "-") in _NO_CHARSETS:
        raise LookupError(charset)
    return data.decode(charset)
