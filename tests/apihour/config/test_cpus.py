"""CPUs that this process may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from apihour.config import cpus
from apihour.config.cpus import available_cpus


def test_affinity_is_respected() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert available_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("files", "expected"), [
    ({"/sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
    ({"/sys/fs/cgroup/cpu.max": "max 100000\n"}, 8),
    ({"/sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
    ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000",
      "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 3),
    ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
      "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 8),
    ({"/sys/fs/cgroup/cpu.max": "rubbish"}, 8),
    ({}, 8),
])
def test_a_cgroups_quota_is_respected(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(path: str, **_: Any) -> Any:
        found = tmp_path / path.replace("/", "_")
        if path in files:
            found.write_text(files[path])
        return found.open()

    monkeypatch.setattr(cpus, "open", fake, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert available_cpus() == expected
