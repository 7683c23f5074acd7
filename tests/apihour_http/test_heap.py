"""What malloc keeps: a burst takes the memory of the one before, without a page fault."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

BURSTS = """
import resource
from apihour_http.heap import keep_heap

def burst():
    bodies = [bytearray(200_000) for _ in range(64)]

def faults():
    for turn in range(5):
        burst()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for turn in range(15):
        burst()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
keep_heap()
keep_heap()
print(faults())
"""


def faults(**environment: str) -> tuple[int, int]:
    """Page faults of 15 bursts of 64 bodies, of 3,000 pages all, before it and after."""
    done = subprocess.run([sys.executable, "-c", BURSTS], capture_output=True, text=True,
                          check=True, env={**os.environ, **environment})
    before, after = map(int, done.stdout.split())
    return before, after


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc" or "MALLOC_TRIM_THRESHOLD_" in os.environ
                    or "asan" in os.environ.get("LD_PRELOAD", ""),  # tests/…/speed/sanitized
                    reason="malloc is another, or told otherwise")
def test_a_burst_takes_the_memory_of_the_one_before() -> None:
    before, after = faults()
    assert before > 20_000 and after < 2_000
    assert faults(MALLOC_TRIM_THRESHOLD_="131072")[1] > 20_000  # who decides has decided
