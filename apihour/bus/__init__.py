"""``container.bus``: messages between workers, and between machines; may import from ipc down."""

from __future__ import annotations

import os
from typing import Any

from apihour.bus.bus_contract import Bus
from apihour.bus.mailbox import Subscription
from apihour.bus.messages import BusMessage, Gap
from apihour.errors import BusError, BusTimeoutError, ConfigurationError, NoResponderError

__all__ = [
    "Bus", "BusError", "BusMessage", "BusTimeoutError", "Gap", "NoResponderError",
    "Subscription", "open_bus",
]


def open_bus(config: Any, directory: str | os.PathLike[str]) -> Bus:
    """The bus that ``bus:`` of the configuration says; None: the embedded one, in `directory`.

    Nothing is opened before its first use. Raises ConfigurationError.
    """
    if config is not None:
        raise ConfigurationError(f"bus: {config!r:.100}; expected nothing")
    from apihour.bus.local_bus import LocalBus

    return LocalBus(directory)
