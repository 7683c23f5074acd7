"""The command about feature values: ``flags``, and setting one for all workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from apihour.errors import SharedError
from apihour.ops.annotations import Acts, Seconds
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.context import AgentContext
from apihour.ops.model import CommandFailed, Role
from apihour.ops.rows import stamp

commands = Catalogue()


@dataclass(frozen=True)
class FlagRow:
    """One flag; `default`: what holds when it is reset, `age`: since the store was heard of."""

    flag: str
    value: str
    default: str
    set: str
    age: Seconds


@commands.command(collects="loop", scope="one", deadline=5.0)
async def flags(
    context: AgentContext, flag: str | None = None, value: Annotated[str | None, Acts()] = None,
    *, reset: Annotated[bool, Acts(), "take it back: the default holds"] = False,
) -> list[FlagRow]:
    """Flags: feature values of all workers, of all hosts that share a store; or set one.

    A value is on or off, a percentage (25%: for so many of the keys), a number or a text, of the
    type that the flag has already. It holds in all workers at once, across reloads, until it is
    reset. Setting needs role admin.

    Args:
        flag: its name
        value: what it is to be
    """
    acts = value is not None or reset
    if acts and context.role < Role.ADMIN:
        raise CommandFailed("flags: setting one needs role admin", "role")
    if acts and (flag is None or (reset and value is not None)):
        raise CommandFailed("flags: expected FLAG VALUE, or FLAG --reset", "usage")
    own: Any = getattr(context.worker.container, "flags", None)
    if own is None:
        return []
    try:
        await _act(own, flag, value, reset)
    except SharedError as error:
        if acts or not own.all():
            raise CommandFailed(f"flags: {error}") from error
    except ValueError as error:
        raise CommandFailed(str(error), "usage") from error
    known = [one for one in own.all() if flag in (None, one.name)]
    if acts and not known:
        known = [own.state(flag)]
    if flag is not None and not known:
        raise CommandFailed(f"flag {flag!r:.80}: not set, nor declared, nor asked for in this "
                            "worker; flags lists those that are")
    return [_row(one, own.age) for one in known]


async def _act(own: Any, flag: str | None, value: str | None, reset: bool) -> None:
    await own.look()
    if flag is None:
        return
    if value is not None:
        await own.put(flag, own.read(flag, value))
    elif reset:
        await own.reset(flag)


def _row(one: Any, age: float) -> FlagRow:
    return FlagRow(one.name, _text(one.value), _text(one.default), stamp(one.at) if one.at else "",
                   round(age, 1))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else str(value)
