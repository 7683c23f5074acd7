"""The configuration of a daemon as one value: read whole, in force whole, or not at all.

Rules:

- It is made by :meth:`apihour.config.reader.Reader.read` only, and nothing of it changes then:
  what is to be different is read anew.
- Relative paths mean what they say in :attr:`Configuration.directory` only.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apihour.bind.addresses import BindAddress
from apihour.bind.binds import resolve_binds
from apihour.config.settings import HostConfig

if TYPE_CHECKING:
    from apihour.config.tree import ConfigTree

__all__ = ["Configuration", "as_it_was", "forget_environment"]


@dataclass(frozen=True, eq=False)
class Configuration:
    """One reading of every source.

    ``bind_levels`` are the binds of each source that had some, the most important last;
    ``directory`` and ``paths`` are the working directory and ``sys.path`` of a process that
    it is in force in; ``release`` is what a rollback has entered in place of ``--chdir``, else
    empty; ``notes`` are lines for whoever starts the daemon.
    """

    cfg: HostConfig
    target: str
    tree: ConfigTree | None
    bind_levels: tuple[tuple[str, ...], ...]
    directory: str
    paths: tuple[str, ...]
    release: str = ""
    notes: tuple[str, ...] = ()

    def container_config(self) -> dict[str, Any]:
        """What a container gets, from files that are read now. Raises ConfigurationError."""
        return self.tree.load() if self.tree is not None else {}

    def resolve(self, declared: Mapping[str, Sequence[str]] | None) -> dict[str, list[BindAddress]]:
        """The binds after every override. Raises ConfigurationError."""
        return resolve_binds(declared, self.bind_levels)

    def enter(self) -> None:
        """Let this process be where it is in force."""
        with contextlib.suppress(FileNotFoundError):  # removed: we stay in what is left of it
            os.chdir(self.directory)
        sys.path[:] = self.paths

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Let this process be there for a while, so that relative paths mean what they say."""
        with as_it_was():
            self.enter()
            yield


def forget_environment(cfg: HostConfig) -> None:
    """Undo what a configuration has put into ``os.environ``: another one may do without."""
    for key in cfg.env:
        if key in cfg.env_orig:
            os.environ[key] = cfg.env_orig[key]
        else:
            os.environ.pop(key, None)


@contextlib.contextmanager
def as_it_was() -> Iterator[None]:
    """Put directory and ``sys.path`` of this process back at the end."""
    # By descriptor: a deploy may have removed the directory that this process is in. To
    # enter it again needs no right to read it.
    before, paths = os.open(".", getattr(os, "O_PATH", os.O_RDONLY)), list(sys.path)
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)
        sys.path[:] = paths
