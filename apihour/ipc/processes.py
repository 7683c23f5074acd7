"""What the kernel says of another process of this machine, from proc(5)."""

from __future__ import annotations

from pathlib import Path

__all__ = ["ENDED", "STOPPED", "stat_of"]

ENDED = ("Z", "X")  # states of one that has ended and was not collected yet
STOPPED = ("T", "t")  # by a signal or a debugger


def stat_of(pid: int | str, file: str = "stat") -> list[str]:
    """The fields of its ``stat`` from the third, its state, on; its name may hold anything.

    Or all those of a `file` that has no name in it. Empty when it is gone or there is no /proc.
    """
    try:
        text = Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()
