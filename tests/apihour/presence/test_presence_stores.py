"""``container.presence`` on the embedded store, on a real Redis and on a real NATS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apihour.shared.store import Shared
from tests.apihour.shared.test_nats_store import emptied
from tests.apihour.shared.test_nats_store import made as in_nats
from tests.apihour.shared.test_redis_store import made as in_redis
from tests.contracts.presence_contract import PresenceContract
from tests.databases import redis_server
from tests.nats_server import NATSServer, nats_server

__all__ = ["nats_server", "redis_server"]


class TestEmbedded(PresenceContract):
    @pytest.fixture
    async def stores(self, tmp_path: Path) -> Callable[[], Any]:
        return lambda: Shared(tmp_path / "shared")


class TestRedis(PresenceContract):
    @pytest.fixture
    async def stores(self, redis_server: Any, tmp_path: Path) -> Callable[[], Any]:
        store = in_redis(redis_server, tmp_path)
        await store._client.flushall()
        await store.close()
        return lambda: in_redis(redis_server, tmp_path)


class TestNATS(PresenceContract):
    @pytest.fixture
    async def stores(self, nats_server: NATSServer, tmp_path: Path) -> Callable[[], Any]:
        await emptied(nats_server)
        return lambda: in_nats(nats_server, tmp_path)
