"""What a command of the worker is given: its worker, and the agent it runs in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from apihour.ipc.runtime import Runtime
from apihour.ops.catalogue import Catalogue
from apihour.ops.ids import Ids
from apihour.ops.logring import LogRing
from apihour.ops.model import Role
from apihour.ops.sampler import CpuSampler
from apihour.ops.stacks import LoopWatch
from apihour.ops.taskbook import TaskBook

__all__ = ["AgentContext", "AgentView", "WorkerView"]


class WorkerView(Protocol):
    """What the agent sees of its worker."""

    pid: int
    name: str
    ids: Ids
    container: Any
    loop: Any
    connections: Any
    servers: Mapping[str, Any]
    row: Any
    runtime: Runtime
    cfg: Any
    log: Any
    started: float
    beat: float
    certificates: Any
    sampler: CpuSampler
    channel: Any
    heed_orders: Callable[[], None]


class AgentView(Protocol):
    """What commands see of the agent."""

    application: Catalogue
    sessions: dict[str, Any]
    memory: dict[tuple[str, int], int]
    tasks: TaskBook

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call `function` in the agent's thread after that many seconds."""


@dataclass(frozen=True)
class AgentContext:
    """First argument of the commands that run in the agent or, for it, in the loop."""

    agent: AgentView
    worker: WorkerView
    role: Role
    watch: LoopWatch
    ring: LogRing
