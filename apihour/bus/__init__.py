"""``container.bus``: messages between workers, and between machines; may import from ipc down."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from apihour.bus.bus_contract import Bus
from apihour.bus.mailbox import Subscription
from apihour.bus.messages import BusMessage, Gap
from apihour.errors import (
    BusDownError,
    BusError,
    BusTimeoutError,
    ConfigurationError,
    NoResponderError,
)
from apihour.masking import mask_text

__all__ = [
    "Bus", "BusDownError", "BusError", "BusMessage", "BusTimeoutError", "Gap", "NoResponderError",
    "Subscription", "open_bus",
]


def open_bus(config: Any, directory: str | os.PathLike[str]) -> Bus:
    """The bus that ``bus:`` of the configuration says; None: the embedded one, in `directory`.

    Nothing is opened before its first use. Raises ConfigurationError.
    """
    if config is None:
        from apihour.bus.local_bus import LocalBus

        return LocalBus(directory)
    from apihour.bus.nats_address import SCHEMES, NATSAddress, scheme_of

    if scheme_of("bus", config) not in SCHEMES:
        raise ConfigurationError(f"bus: {mask_text(repr(config))[:100]}; expected "
                                 "nats://HOST:PORT, a mapping with such a url, or nothing")
    from apihour.bus.nats_bus import NATSBus
    from apihour.bus.nats_connection import NATSConnection

    address, _ = NATSAddress.read("bus", config, {})
    return NATSBus(partial(NATSConnection, "bus", address))
