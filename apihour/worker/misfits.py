"""Servers and binds that do not go together, told in time; read where a bind asks something."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from apihour.errors import ConfigurationError
from apihour.plugins import Server, is_shell

if TYPE_CHECKING:
    from apihour.bind.addresses import BindAddress
    from apihour.limits.bind_options import BindOptions

__all__ = ["refuse_lost_options", "refuse_lost_tls"]


def refuse_lost_tls(name: str, server: Server, binds: Mapping[str, BindAddress]) -> None:
    """Refuse a server that would be served without the TLS, or the PROXY headers, of its bind.

    Raises ConfigurationError naming the bind, a key of `binds`.
    """
    proxied = [bind for bind, address in binds.items() if address.proxy is not None]
    if proxied and (is_shell(server) or not callable(getattr(server, "stream", None))):
        raise ConfigurationError(
            f"server {name!r}: it accepts by itself ({server.protocol}), where nobody reads PROXY "
            f"headers; expected its bind {proxied[0]} without proxy")
    encrypted = [bind for bind, address in binds.items() if address.tls is not None]
    if not encrypted:
        return
    if is_shell(server):
        why = "the shell is SSH, which encrypts by itself"
    elif not callable(getattr(server, "stream", None)):
        why = f"a server that accepts by itself ({server.protocol}) loses TLS"
    else:
        return
    raise ConfigurationError(
        f"server {name!r}: {why}; expected its bind {encrypted[0]} without tls")


def refuse_lost_options(
    name: str, server: Server, declared: BindOptions | None, binds: Mapping[str, BindAddress]
) -> None:
    """Refuse options about connections where nobody would mind them.

    Raises ConfigurationError naming the server and the first of them.
    """
    asked = {"its bind_options": declared,
             **{f"its bind {bind}": address.options for bind, address in binds.items()}}
    for where, options in asked.items():
        if options is None or not options.texts():
            continue
        if is_shell(server):
            why = "the console accepts for the shell"
        elif any(one.kind == "datagram" for one in binds.values()):
            why = "datagrams have no connections"
        elif not callable(getattr(server, "stream", None)):
            why = f"it accepts by itself ({server.protocol})"
        else:
            return
        raise ConfigurationError(f"server {name!r}: {why}, where nobody minds what is asked of "
                                 f"them; expected {where} without {next(iter(options.texts()))}")
