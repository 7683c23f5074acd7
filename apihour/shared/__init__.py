"""The store behind ``container.shared``; may import from bus down."""

from apihour.shared.backend import SharedBackend, SharedCache
from apihour.shared.leases import Leases, Wish
from apihour.shared.store import Change, CompareAndSet, Entry, Shared, SharedStatistics

__all__ = [
    "Change", "CompareAndSet", "Entry", "Leases", "Shared", "SharedBackend", "SharedCache",
    "SharedStatistics", "Wish",
]
