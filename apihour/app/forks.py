"""Processes that an application forks while it is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["in_one_process"]


@contextmanager
def in_one_process(what: str) -> Iterator[None]:
    """End a process that is forked inside and runs on to the end, with one line on stderr.

    It would go on as a second probe, template or worker that nobody knows, with the
    descriptors of the first: reports come twice, and orders are lost.
    """
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != pid:
            try:
                os.write(2, f"apihour: {what}: a process that it forked ran on to the end of it; "
                            "ended\n".encode())
            finally:
                os._exit(1)
