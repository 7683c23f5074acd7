"""Who is connected where, behind ``container.presence``; may import from shared down."""

from apihour.presence.container_presence import ContainerPresence
from apihour.presence.presence_entry import PresenceChange, PresenceEntry, PresenceError

__all__ = ["ContainerPresence", "PresenceChange", "PresenceEntry", "PresenceError"]
