"""Who is connected where, behind ``container.presence``; may import from shared down."""

from apihour.errors import PresenceError
from apihour.presence.container_presence import ContainerPresence
from apihour.presence.presence_entry import PresenceChange, PresenceEntry

__all__ = ["ContainerPresence", "PresenceChange", "PresenceEntry", "PresenceError"]
