"""Which store ``shared:`` of the configuration is, and what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from apihour.errors import ConfigurationError
from apihour.shared.chosen import chosen, examine
from apihour.shared.store import Shared


@pytest.mark.parametrize("config", [None, {}, {"limit_bytes": 1_000_000, "deadline": 0.5}])
async def test_without_another_it_is_the_daemons_own(config: Any, tmp_path: Path) -> None:
    shared = chosen(config, tmp_path / "shared")
    assert isinstance(shared, Shared)
    await shared.close()


@pytest.mark.parametrize(("config", "said"), [
    (5, r"^shared: 5; expected a URL, or a mapping"),
    (["nats://a"], r"^shared: \['nats://a'\]; expected a URL, or a mapping"),
    ({"limit_bytez": 1}, r"^shared: 'limit_bytez'; expected of deadline, limit_bytes"),
    ({"deadline": "soon"}, r"^shared: deadline: 'soon'; expected 0.01 to 3600 seconds"),
    ({"deadline": 0}, r"^shared: deadline: 0; expected 0.01 to 3600 seconds"),
    ({"limit_bytes": "64M"}, r"^shared: limit_bytes: '64M'; expected a number of bytes"),
    ({"limit_bytes": True}, r"^shared: limit_bytes: True; expected a number of bytes"),
    ({"deadline": True}, r"^shared: deadline: True; expected 0.01 to 3600 seconds"),
    ("", r"^shared: url: ''; expected redis://"),
    (["redis://u:se@b"], r"^shared: \['redis://u:\*+@b'\]; expected a URL, or a mapping"),
    ({"url": ["nats://u:se@b", 5]}, r"^shared: url: .*nats://u:\*+@b.*; expected"),
    ({"url": "nats://127.0.0.1:1", "deadline": "soon"}, r"^shared: .*deadline: 'soon'; expected"),
    ({"url": "redis://127.0.0.1:1", "deadline": None}, r"^shared: .*deadline: None; expected"),
])
def test_what_cannot_be_one_is_refused_in_one_line(
    config: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        chosen(config, tmp_path / "shared")
    with pytest.raises(ConfigurationError, match=said):
        examine(config)
