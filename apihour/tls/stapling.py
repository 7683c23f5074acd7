"""OCSP responses from files (RFC 6960), for clients that want one with the handshake.

Nothing is fetched: who renews the certificate renews the file. A response whose time is over is
not sent, one that is of another certificate is refused.
"""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.x509 import ocsp

from apihour.errors import ConfigurationError
from apihour.tls.libssl import staple, why_unreachable

__all__ = ["staple_file"]


def staple_file(context: ssl.SSLContext, what: str, path: str, certificate: str) -> None:
    """Send the response in the file `path`, in DER, with the certificate of that other file.

    `what` names the first in messages. Raises ConfigurationError.
    """
    if why := why_unreachable():
        raise ConfigurationError(f"{what} {path!r}: it cannot be sent: {why}; expected no ocsp")
    try:
        encoded = Path(path).read_bytes()
        response = ocsp.load_der_ocsp_response(encoded)
        served = x509.load_pem_x509_certificate(Path(certificate).read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be read"
        raise ConfigurationError(
            f"{what} {path!r}: {reason}; expected an OCSP response in DER format") from error
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        raise ConfigurationError(f"{what} {path!r}: the response says "
                                 f"{response.response_status.name}; expected a successful one")
    if response.serial_number != served.serial_number:
        raise ConfigurationError(f"{what} {path!r}: the response is of another certificate than "
                                 f"{certificate!r}")
    until = response.next_update_utc
    if until is None or until > datetime.datetime.now(datetime.UTC):
        staple(context, encoded)
