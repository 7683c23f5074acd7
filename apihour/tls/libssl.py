"""What OpenSSL can and Python's ssl cannot yet: ticket keys, groups, OCSP responses (by ctypes).

Rules:

- The ``SSL_CTX`` is the first field of CPython's context objects; nothing is asked of it in a
  version of Python where that has not been seen, and what it says of itself must be what Python
  says of it. ``tests/apihour/tls/test_libssl.py`` fails when either changes.
- Where it cannot be reached, :func:`why_unreachable` says why, and TLS goes on without it.
"""

from __future__ import annotations

import ctypes
import ssl
import sys
import weakref
from asyncio.sslproto import SSLProtocol
from functools import cache
from itertools import count
from typing import Any

__all__ = ["KEYS_SIZE", "offers_only", "set_groups", "set_ticket_keys", "shrink_tls_buffers",
           "staple", "why_unreachable"]

KEYS_SIZE = 80  # bytes: a name of 16, 32 for HMAC and 32 for AES (OpenSSL's ssl_local.h)
_SEEN = ((3, 11), (3, 14))  # versions of CPython, the second excluded, that were looked at
# Numbers of OpenSSL's ssl.h and tls1.h, where the functions of those names are macros.
_GET_TICKET_KEYS, _SET_TICKET_KEYS = 58, 59
_SET_STATUS_CALLBACK, _SET_STATUS_ARGUMENT, _SET_OCSP_RESPONSE = 63, 64, 71
_SET_GROUPS_LIST = 92
_ALPN = 16  # the extension's number (RFC 7301 6)
_OK, _NO_ACKNOWLEDGEMENT = 0, 3  # SSL_TLSEXT_ERR_OK and SSL_TLSEXT_ERR_NOACK


def shrink_tls_buffers(size: int) -> None:
    """Let asyncio's TLS connections of this process have a read buffer of `size` bytes.

    Each allocates and touches 256 KiB, before its handshake: a thousand clients that only
    connect would cost 300 MB. uvloop's cost 50 kB and are not meant here.
    """
    SSLProtocol.max_size = size


class _Library:
    """The functions of the libssl that ``_ssl`` is linked to. Raises OSError, AttributeError."""

    def __init__(self) -> None:
        import _ssl

        self.staples: dict[int, bytes] = {}  # by the callback's argument; of contexts that live
        self.numbers = count(1)

        path = getattr(_ssl, "__file__", None)
        if path is None:
            raise OSError("Python has OpenSSL built in")
        library: Any = ctypes.CDLL(path)
        pointer, integer, long = ctypes.c_void_p, ctypes.c_int, ctypes.c_long
        self.context_ctrl: Any = library.SSL_CTX_ctrl
        self.context_ctrl.argtypes, self.context_ctrl.restype = (
            [pointer, integer, long, pointer], long)
        self.ctrl: Any = library.SSL_ctrl
        self.ctrl.argtypes, self.ctrl.restype = [pointer, integer, long, pointer], long
        self.callback_ctrl: Any = library.SSL_CTX_callback_ctrl
        self.callback_ctrl.argtypes, self.callback_ctrl.restype = [pointer, integer, pointer], long
        self.options: Any = library.SSL_CTX_get_options
        self.options.argtypes, self.options.restype = [pointer], ctypes.c_uint64
        self.context_of: Any = library.SSL_get_SSL_CTX
        self.context_of.argtypes, self.context_of.restype = [pointer], pointer
        self.extension: Any = library.SSL_client_hello_get0_ext
        self.extension.argtypes, self.extension.restype = [
            pointer, ctypes.c_uint, ctypes.POINTER(pointer), ctypes.POINTER(ctypes.c_size_t),
        ], integer
        self.malloc: Any = library.CRYPTO_malloc
        self.malloc.argtypes, self.malloc.restype = [
            ctypes.c_size_t, ctypes.c_char_p, integer], pointer
        # Kept as long as the process: a context outlives what it was set by.
        self.on_status: Any = ctypes.CFUNCTYPE(integer, pointer, pointer)(self._status)

    def _status(self, connection: int, number: int | None) -> int:
        """Answer a client that asks for the status of the certificate (RFC 6066 8)."""
        response = self.staples.get(number or 0)
        place = self.malloc(len(response), b"", 0) if response else None
        if response is None or place is None:
            return _NO_ACKNOWLEDGEMENT
        ctypes.memmove(place, response, len(response))
        self.ctrl(connection, _SET_OCSP_RESPONSE, len(response), place)  # OpenSSL frees it
        return _OK


@cache
def _reached() -> _Library | str:
    """The library, or why it cannot be reached."""
    if sys.implementation.name != "cpython" or not _SEEN[0] <= sys.version_info < _SEEN[1]:
        return f"OpenSSL's contexts are not known with {sys.implementation.name} {sys.version[:6]}"
    try:
        library = _Library()
    except (ImportError, OSError, AttributeError) as error:
        return f"the OpenSSL of Python cannot be reached: {error}"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for option in (ssl.OP_NO_TICKET, ssl.OP_CIPHER_SERVER_PREFERENCE):
        context.options |= option
        if library.options(_pointer(context)) != context.options:
            return "OpenSSL's contexts are not where they are expected"
    if library.context_ctrl(_pointer(context), _GET_TICKET_KEYS, 0, None) != KEYS_SIZE:
        return f"{ssl.OPENSSL_VERSION} has ticket keys of another size"
    return library


def _pointer(context: ssl.SSLContext) -> Any:
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__)


def _library() -> _Library:
    found = _reached()
    if isinstance(found, str):
        raise NotImplementedError(found)
    return found


def why_unreachable() -> str:
    """Why the functions of this module raise NotImplementedError; empty: they do not."""
    found = _reached()
    return found if isinstance(found, str) else ""


def set_ticket_keys(context: ssl.SSLContext, keys: bytes) -> None:
    """Have session tickets (RFC 5077, RFC 8446 4.6.1) sealed by these :data:`KEYS_SIZE` bytes.

    Raises ValueError for another number of them, NotImplementedError.
    """
    library = _library()
    if len(keys) != KEYS_SIZE or library.context_ctrl(
            _pointer(context), _SET_TICKET_KEYS, KEYS_SIZE, keys) != 1:
        raise ValueError(f"{len(keys)} bytes of ticket keys; expected {KEYS_SIZE}")


def set_groups(context: ssl.SSLContext, names: str) -> None:
    """Agree on keys in these groups only, apart by colons, the best first.

    Raises ValueError for one that OpenSSL does not know, NotImplementedError.
    """
    if _library().context_ctrl(_pointer(context), _SET_GROUPS_LIST, 0, names.encode()) != 1:
        raise ValueError(f"groups {names!r}: expected some that {ssl.OPENSSL_VERSION} knows")


def staple(context: ssl.SSLContext, response: bytes) -> None:
    """Send that OCSP response (RFC 6960, DER) to clients that ask for the certificate's status.

    Raises NotImplementedError.
    """
    library = _library()
    number = next(library.numbers)
    library.staples[number] = response
    weakref.finalize(context, library.staples.pop, number, None)
    library.callback_ctrl(
        _pointer(context), _SET_STATUS_CALLBACK, ctypes.cast(library.on_status, ctypes.c_void_p))
    library.context_ctrl(_pointer(context), _SET_STATUS_ARGUMENT, 0, number)


def offers_only(connection: ssl.SSLObject | ssl.SSLSocket, protocol: bytes) -> bool:
    """Whether a client offers just that by ALPN, asked in an ``sni_callback``, not later.

    Raises NotImplementedError.
    """
    library = _library()
    inner: Any = connection._sslobj  # type: ignore[union-attr]
    # Behind the head: a reference to what it writes to, then the connection of OpenSSL.
    behind = id(inner) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
    ours = ctypes.c_void_p.from_address(behind)
    if library.context_of(ours) != _pointer(connection.context).value:
        raise NotImplementedError("OpenSSL's connections are not where they are expected")
    place, size = ctypes.c_void_p(), ctypes.c_size_t()
    if library.extension(ours, _ALPN, ctypes.byref(place), ctypes.byref(size)) != 1:
        return False
    names = bytes([len(protocol)]) + protocol
    wanted = len(names).to_bytes(2, "big") + names
    # It has been read by now, so the place is its end; before it are at least the random bytes.
    begin = (place.value or 0) - (0 if size.value else len(wanted))
    return size.value in (0, len(wanted)) and ctypes.string_at(begin, len(wanted)) == wanted
