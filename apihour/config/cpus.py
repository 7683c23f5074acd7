"""How many CPUs this process may use."""

from __future__ import annotations

import os

__all__ = ["available_cpus"]


def available_cpus() -> int:
    """CPUs this process may use: its affinity, capped by the cgroup's quota (cgroups(7))."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        count = os.cpu_count() or 1
    return max(1, min(count, _cgroup_quota(count)))


def _cgroup_quota(default: int) -> int:
    """The quota in whole CPUs, rounded up; `default` where there is none."""
    for path, split in (("/sys/fs/cgroup/cpu.max", True),
                        ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", False)):
        try:
            with open(path, encoding="ascii") as file:
                fields = file.read().split()
            if split:
                quota, period = fields[0], fields[1]
            else:
                with open(path.replace("quota", "period"), encoding="ascii") as file:
                    quota, period = fields[0], file.read().strip()
            if quota != "max" and int(quota) > 0:
                return -(-int(quota) // int(period))
        except (OSError, ValueError, IndexError):
            continue
    return default
