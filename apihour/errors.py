"""The exceptions of the core, by whose fault they are.

::

    ApihourError
    ├── UsageError             the command line cannot be read (exit status 2)
    ├── ConfigurationError     what was declared cannot be served (exit status 1)
    │   ├── TargetError        ``module:name`` does not lead to a container or application
    │   ├── AddressError       the text of a bind is not an address
    │   ├── BindError          the address is fine, the system refuses it
    │   ├── AdaptError         no plugin, or more than one, accepts an object
    │   └── PluginError        an entry point does not lead to a plugin
    ├── HookError              a hook of the user's container raised
    ├── BusError               a message cannot be sent, or its bus is closed
    │   ├── BusDownError       NATS cannot be reached
    │   ├── BusTimeoutError    no answer within the time that it had
    │   └── NoResponderError   nobody subscribes to what was asked, or all of them are gone
    ├── EngineError            an engine cannot be used
    │   ├── EngineBusyError    all of its connections are in use, for too long
    │   └── EngineDownError    it cannot be reached
    ├── JobError               a job cannot run now, or this run of it has lost its lease
    └── SharedError            the shared store did not answer, or refused a value
        ├── RevisionError      somebody else wrote first
        ├── SharedBusyError    other writers won every time until the deadline
        ├── SharedDownError    its engine cannot be reached, or did not answer in time
        └── SharedFullError    no room for the value

A message names the thing, its value and what was expected; the same facts are attributes.
"""

from __future__ import annotations

__all__ = [
    "AdaptError",
    "AddressError",
    "ApihourError",
    "BindError",
    "BusDownError",
    "BusError",
    "BusTimeoutError",
    "ConfigurationError",
    "EngineBusyError",
    "EngineDownError",
    "EngineError",
    "HookError",
    "JobError",
    "NoResponderError",
    "PluginError",
    "RevisionError",
    "SharedBusyError",
    "SharedDownError",
    "SharedError",
    "SharedFullError",
    "TargetError",
    "UsageError",
    "one_line",
]


_FIRST, _LAST = 900, 500  # characters of a long message: the thing's name, what was expected


def one_line(text: str) -> str:
    """A message as one line for a terminal or a log: of bounded length, nothing unprintable."""
    if len(text) > _FIRST + _LAST:
        text = f"{text[:_FIRST]} … {text[-_LAST:]}"
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else " " if char.isspace() else
        char.encode("unicode_escape", "surrogatepass").decode()
        for char in text)


class ApihourError(Exception):
    """Anything this package raises on purpose; ``str()`` of it is one line for a person."""

    exit_status = 1
    detail = ""
    """A traceback from another process, shown with ``--debug``."""

    def __str__(self) -> str:
        # What was given is quoted: two thousand characters of it, or bytes that steer a terminal.
        return one_line(super().__str__())

    def told(self) -> str:
        """The message, and what tells more about it: docs/reference/errors.rst, offline."""
        cls = type(self)
        is_explained = cls.__module__ == __name__ and cls not in (ApihourError, UsageError)
        return f"{self} (apihour explain {cls.__name__})" if is_explained else str(self)


class UsageError(ApihourError):
    """A command line that cannot be understood."""

    exit_status = 2


class ConfigurationError(ApihourError):
    """Something the user declared cannot be served as it is."""


class TargetError(ConfigurationError):
    """``module:name`` does not lead to a container or an application."""


class AddressError(ConfigurationError):
    """The text of a bind is not an address."""

    def __init__(self, text: object, expected: str) -> None:
        super().__init__(f"bind address {text!r}: expected {expected}")
        self.text = text
        self.expected = expected


class BindError(ConfigurationError):
    """An address that the system refuses."""


class AdaptError(ConfigurationError):
    """No plugin, or more than one, accepts an object of ``make_servers()``."""


class PluginError(ConfigurationError):
    """An entry point of the group ``apihour.protocols`` does not lead to a plugin."""


class HookError(ApihourError):
    """A hook of the user's container raised; the message carries file, line and text."""


class BusError(ApihourError):
    """A message cannot be sent, or subscribed to, as it is; or the bus is closed."""


class BusDownError(BusError):
    """NATS is away; a request that needs it is answered with ``http_status``."""

    http_status = 503


class BusTimeoutError(BusError):
    """No answer came within the time that it had."""


class NoResponderError(BusError):
    """Nobody subscribes to the subject of a request, or all that were asked are gone."""


class EngineError(ApihourError):
    """An engine cannot be used now; a request that needs it is answered with ``http_status``."""

    http_status = 503


class EngineBusyError(EngineError):
    """No connection became free in time: more are wanted than ``max`` allows."""


class EngineDownError(EngineError):
    """The engine cannot be reached, and it was tried for as long as was allowed."""


class JobError(ApihourError):
    """A job of the container cannot run now, or this run of it is not the one any more."""


class SharedError(ApihourError):
    """The shared store did not answer in time, or refused a value."""


class RevisionError(SharedError):
    """A compare-and-set met another revision than expected.

    ``key`` names the entry, ``expected`` and ``actual`` the revisions (0: absent).
    """

    def __init__(self, key: str, expected: int, actual: int) -> None:
        super().__init__(f"key {key!r}: expected revision {expected}, found {actual}")
        self.key = key
        self.expected = expected
        self.actual = actual


class SharedBusyError(SharedError):
    """Other writers of the same key won every time until the deadline; try again later."""


class SharedDownError(SharedError):
    """The engine of the shared store is away: a write may have been done, or not.

    A request that needs it is answered with ``http_status``.
    """

    http_status = 503


class SharedFullError(SharedError):
    """The shared store has no room for a value; delete something, or raise its limit."""
