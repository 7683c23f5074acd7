"""Long texts cut for a message: the beginning, the end, and how much is left out between."""

from __future__ import annotations

__all__ = ["DETAIL", "LINE", "excerpt"]

LINE = 2_000  # characters of a message that is meant to be a line
DETAIL = 50_000  # characters of a traceback; its end says most


def excerpt(text: str, most: int) -> str:
    """`text`, in about `most` characters; the end of a long one is kept as well."""
    if len(text) <= most:
        return text
    head = most // 4
    left_out = len(text) - most
    return f"{text[:head]} [... {left_out} characters left out ...] {text[-(most - head):]}"
