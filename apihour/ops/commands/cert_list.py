"""The commands about certificates: ``certs``, and what it asks of each worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from apihour.bind.peers import format_peer
from apihour.ops.catalogue import Catalogue
from apihour.ops.commands.context import AgentContext
from apihour.ops.rows import stamp

commands = Catalogue()


@dataclass(frozen=True)
class CertificateRow:
    """A certificate a bind serves, and its file; `problem` why it cannot be told, or renewed.

    It `is_late` when it should have been renewed by now.
    """

    worker: str
    server: str
    address: str
    subject: str
    names: str
    issuer: str
    days_left: float | None
    is_late: bool
    expires: str
    fingerprint: str
    file: str
    problem: str


@commands.command()
def certs(context: AgentContext) -> Iterator[CertificateRow | float]:
    """Certificates that the TLS binds serve"""
    for name, one in list(context.worker.servers.items()):
        for acceptor in getattr(one, "acceptors", ()):
            if acceptor.tls is not None:
                address = format_peer(acceptor.sock.getsockname())
                for made, file in list(zip(acceptor.tls.contexts, acceptor.tls.files, strict=True)):
                    yield _row(context.worker.name, name, address, made, file, acceptor.tls.problem)


@dataclass(frozen=True)
class RefusedFiles:
    """Why a bind's files are not served."""

    worker: str
    problem: str


@commands.command(name="reload-certs", role="operator", collects="loop", hidden=True)
def reload_certs(context: AgentContext) -> list[RefusedFiles]:
    """Serve what the files of certificates hold now; what cannot be served of it."""
    watch = context.worker.certificates
    found = watch.reload() if watch is not None else []
    return [RefusedFiles(context.worker.name, one) for one in found]


def _row(
    worker: str, server: str, address: str, context: Any, file: str, problem: str
) -> CertificateRow:
    from apihour.tls.served import served_certificate  # here, where there is a bind with TLS

    try:
        found = served_certificate(context)
    except (OSError, ValueError) as error:
        return CertificateRow(
            worker, server, address, "", "", "", None, False, "", "", file, str(error))
    return CertificateRow(
        worker, server, address, found.subject, " ".join(found.names), found.issuer,
        round(found.days_left, 2), found.is_late, stamp(found.expires), found.fingerprint, file,
        problem)
