"""Which of a bind's certificates a client gets: by the server name it asks for (RFC 6066 3).

A name that no certificate has, or none at all, gets the first: most clients then see for
themselves that it is not theirs, and what knows its server by address alone goes on.
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from apihour.tls.served import ServedCertificate

__all__ = ["choose_by_name", "hush_bad_names", "name_table"]


def name_table(
    served: Sequence[tuple[ssl.SSLContext, ServedCertificate]],
) -> dict[str, ssl.SSLContext]:
    """Contexts by the DNS names of their certificates; of two with a name it is the first's."""
    table: dict[str, ssl.SSLContext] = {}
    for context, one in served:
        for name in one.dns_names:
            table.setdefault(name.lower(), context)
    return table


def choose_by_name(default: ssl.SSLContext, table: Mapping[str, ssl.SSLContext]) -> None:
    """Have handshakes with `default` go on with the context of the name that is asked for.

    A wildcard stands for one label, the leftmost (RFC 6125 6.4.3). A callback that the
    ``ssl_context`` hook has set stays: it has the last word.
    """
    if default.sni_callback is not None:
        return

    def choose(
        connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, context: ssl.SSLContext
    ) -> None:
        name = (name or "").lower()
        found = table.get(name) or table.get("*." + name.partition(".")[2])
        if found is not None and found is not context:
            connection.context = found

    default.sni_callback = choose


def hush_bad_names() -> None:
    """Have server names that are no ASCII cost their handshake, and no traceback in the log.

    Python ends such a handshake before it calls back, and tells ``sys.unraisablehook``: whoever
    sends one would write to the log as often as they like.
    """
    before = sys.unraisablehook

    def hook(args: Any) -> None:
        of_name = isinstance(args.object, bytes) or "servername" in (args.err_msg or "")
        if not (of_name and isinstance(args.exc_value, UnicodeDecodeError)):
            before(args)

    sys.unraisablehook = hook
