"""The directories that generations ran in, for a way back to the release before.

Rules:

- A release is a directory: a deploy that switches a link leaves the old one where it was.
- Only what has served is noted, and a rollback takes off what it leaves: two of them in a row
  go back by two.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from apihour.errors import ApihourError

__all__ = ["Releases"]

_MOST = 20  # releases back; who keeps more on the disk has a name for them


class Releases:
    """What has served so far, the present one last; `earlier` is of the arbiter before."""

    def __init__(self, directory: str, earlier: Iterable[str] = ()) -> None:
        self._served = list(earlier)
        self.note(directory)

    def note(self, directory: str) -> None:
        """A generation that runs in this directory serves."""
        if self._served[-1:] != [directory]:
            self._served = [*self._served, directory][-_MOST:]

    def facts(self) -> list[str]:
        """What an arbiter that takes over needs to know."""
        return list(self._served)

    def previous(self) -> str:
        """The directory of the release before. Raises ApihourError when there is none."""
        if len(self._served) < 2:
            raise ApihourError(
                f"no release to go back to: all generations ran in {self._served[0]!r}, but those "
                "that a rollback has left; expected releases in directories of their own, and a "
                "start in a link to the present one")
        found = self._served[-2]
        if not os.path.isdir(found):
            raise ApihourError(f"no release to go back to: {found!r} is gone; expected it kept")
        return found

    def leave(self) -> None:
        """The present one was rolled back from."""
        self._served.pop()
