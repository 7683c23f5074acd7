"""Freed memory that stays with the process: what a burst of bodies took, the next one takes again.

glibc hands back what is free at the end of its heap, by default from 128 KiB on. Reads of a loop
are up to 256 KiB each, so that every few of them had the heap shrink, and grow by pages that the
kernel clears one fault at a time: half of the CPU time of an upload.
"""

from __future__ import annotations

import functools

__all__ = ["keep_heap"]

_BLOCK = 16 << 20  # bytes


@functools.cache
def keep_heap() -> None:
    """Have malloc keep up to twice a block that is free at the end of its heap, in this process.

    That is what glibc does by itself once it has been given back a block of that size (mallopt(3),
    M_MMAP_THRESHOLD): none of its pages is touched here. Where the environment has a value for it
    (``MALLOC_TRIM_THRESHOLD_``, ``GLIBC_TUNABLES``), and with another malloc, nothing changes.
    """
    bytes(_BLOCK)
