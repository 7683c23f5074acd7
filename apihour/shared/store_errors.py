"""What the file system says of the embedded store, as its users expect it."""

from __future__ import annotations

import errno

from apihour.errors import SharedError, SharedFullError

__all__ = ["StoreErrors"]


class StoreErrors:
    """Turns an OSError of its ``with`` block into a SharedError that names `what`."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise self.told(error) from error

    def told(self, error: OSError) -> SharedError:
        """What is raised for it; by itself where ``with`` would cost what the call does."""
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM)
        return (SharedFullError if full else SharedError)(f"{self._what}: {error}")
