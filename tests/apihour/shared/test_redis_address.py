"""Schemes of Valkey's, and what only looks like one."""

from __future__ import annotations

from pathlib import Path

import pytest

from apihour.engines import Redis
from apihour.shared.open_shared import open_shared
from apihour.shared.redis_address import redis_url


@pytest.mark.parametrize(("given", "wanted"), [
    ("valkey://valkey:6379/0", "redis://valkey:6379/0"), ("valkeys://h", "rediss://h"),
    ("redis://valkey:6379", "redis://valkey:6379"), ("rediss://u:valkey@h", "rediss://u:valkey@h"),
    ("unix:///run/valkey/valkey.sock", "unix:///run/valkey/valkey.sock"), ("valkey", "redis"),
])
def test_only_the_scheme_is_another(given: str, wanted: str) -> None:
    assert redis_url(given) == wanted


async def test_a_host_that_is_called_valkey_is_asked_under_its_name(tmp_path: Path) -> None:
    for url in ("redis://valkey:6379/0", "valkey://valkey:6379/0"):
        shared = open_shared(url, tmp_path)
        pool = shared._client.connection_pool  # type: ignore[attr-defined]
        assert pool.connection_kwargs["host"] == "valkey"
        await shared.close()
        engine = Redis(url)
        driver = engine.make_driver(url, "")
        assert driver._url == "redis://valkey:6379/0"  # type: ignore[attr-defined]
