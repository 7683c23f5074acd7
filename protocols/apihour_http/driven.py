"""A coroutine around another one: driven as that was, with something done at each step."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

__all__ = ["Driven"]


class Driven(Coroutine[Any, Any, Any]):
    """It shows the frames of the one inside, so that who looks at tasks sees no difference."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    @property
    def cr_frame(self) -> Any:
        return self._inner.cr_frame

    @property
    def cr_await(self) -> Any:
        return self._inner.cr_await

    @property
    def cr_code(self) -> Any:
        return self._inner.cr_code

    def _step(self, function: Any, *arguments: Any) -> Any:
        """One step: from where it waited to where it waits again, or to its end."""
        raise NotImplementedError

    def send(self, value: Any) -> Any:
        return self._step(self._inner.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self._inner.throw, *error)

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self.send(None)
