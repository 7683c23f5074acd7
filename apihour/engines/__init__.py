"""Engines: databases and what else a worker holds for its requests; may import from shared down.
"""

from apihour.engines.postgres import Postgres
from apihour.engines.resource import Resource, Transaction
from apihour.errors import EngineBusyError, EngineDownError, EngineError

__all__ = [
    "EngineBusyError",
    "EngineDownError",
    "EngineError",
    "Postgres",
    "Resource",
    "Transaction",
]
