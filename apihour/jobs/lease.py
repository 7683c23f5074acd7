"""The right to run one job, for a while: a key of the store that expires unless it is renewed.

Rules:

- The revision with which it was taken is the run's fencing token: a later holder's is greater.
- A holder that was stopped past the expiry finds the key gone, or another's: it never takes it
  up again, though nobody else may have been there.
- Whether it is ours is known by writing it: a store of several machines that are cut off from one
  another may read what was, and acknowledges no write but of the majority.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

from apihour.errors import JobError, RevisionError

if TYPE_CHECKING:
    from apihour.shared.backend import SharedBackend

__all__ = ["Lease", "LeaseGoneError"]


class LeaseGoneError(JobError):
    """Who held a lease holds it no more: nothing of the application's has failed."""


class Lease:
    """One lease, held by one run."""

    def __init__(self, shared: SharedBackend, key: str, seconds: float, holder: str) -> None:
        self.key = key
        self.seconds = seconds
        self.token = 0
        self.taken = 0.0
        """When it was asked for, by the monotonic clock: the store counts from no earlier."""
        self._shared = shared
        self._value = f"{holder} {os.urandom(8).hex()}".encode()
        self._revision = 0
        self._renewing = asyncio.Lock()

    async def take(self) -> bool:
        """Whether it is ours now. Raises SharedError."""
        self.taken = time.monotonic()
        try:
            self._revision = await self._shared.put(self.key, self._value, 0, self.seconds)
        except RevisionError:
            return False
        self.token = self._revision
        return True

    async def renew(self) -> bool:
        """Whether it is ours still, for another while. Raises SharedError.

        After one whose answer did not arrive it is ours under a revision that is not known yet.
        """
        async with self._renewing:
            if await self._put():
                return True
            entry = await self._shared.get(self.key)
            if entry is None or entry.value != self._value:
                return False
            self._revision = entry.revision
            return await self._put()

    async def _put(self) -> bool:
        try:
            self._revision = await self._shared.put(
                self.key, self._value, self._revision, self.seconds)
        except RevisionError:
            return False
        return True

    async def release(self) -> None:
        """Leave it to another; nothing where it is not ours any more. Raises SharedError."""
        try:
            await self._shared.delete(self.key, self._revision)
        except RevisionError:
            pass  # expired, and another's
