"""Engines: databases and what else a worker holds for its requests; may import from shared down.
"""

from apihour.engines.mysql import MySQL
from apihour.engines.postgres import Postgres
from apihour.engines.psycopg_engine import Psycopg
from apihour.engines.redis_engine import Redis
from apihour.engines.resource import Resource, Transaction
from apihour.engines.sqlite import SQLite
from apihour.errors import EngineBusyError, EngineDownError, EngineError

__all__ = [
    "EngineBusyError",
    "EngineDownError",
    "EngineError",
    "MySQL",
    "Postgres",
    "Psycopg",
    "Redis",
    "Resource",
    "SQLite",
    "Transaction",
]
