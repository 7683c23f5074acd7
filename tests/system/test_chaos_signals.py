"""The short form of ``benchmarks/chaos.py``: random signals and deaths, and nothing lost or left.

``APIHOUR_CHAOS_SEED`` repeats a run.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHAOS = Path(__file__).parents[2] / "benchmarks" / "chaos.py"


@pytest.mark.parametrize("mode", ["template", "reuse_port"])
def test_random_signals_and_deaths_lose_nothing_and_leave_nothing(mode):
    seed = os.environ.get("APIHOUR_CHAOS_SEED", str(time.time_ns() % 100_000))
    result = subprocess.run(
        [sys.executable, str(CHAOS), "--seeds", "1", "--first", seed, "--seconds", "5",
         "--modes", mode, "--keep"], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, f"seed {seed}\n{result.stdout}\n{result.stderr}"
    assert "as it should be" in result.stdout
