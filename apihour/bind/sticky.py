"""Which of a bind's sockets a client gets: by its address, chosen in the kernel.

Rules:

- The sockets of a ``?sticky`` bind are one group of SO_REUSEPORT (socket(7)), in the order of their
  slots, and none is closed while another lives. So a number of the group is a slot, for good.
- A program of classic BPF chooses it for each new connection, or datagram, of IPv4 by the source
  address, of IPv6 by its /64: no process is asked, and nothing is remembered.
- The program is the group's, and knows how many there are: more sockets, another program.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence

__all__ = ["choose_by_address", "slot_of"]

_ATTACH = 51  # SO_ATTACH_REUSEPORT_CBPF of asm-generic/socket.h
_NETWORK = 0xFFF00000  # SKF_NET_OFF of linux/filter.h: from the IP header on
_V4_SOURCE, _V6_SOURCE = 12, 8  # where it stands there (RFC 791 3.1, RFC 8200 3)
_LOAD, _TO_X, _MULTIPLY, _ADD_X, _SHIFT, _MODULO, _RETURN = (
    0x20, 0x07, 0x24, 0x0C, 0x74, 0x94, 0x16)  # of linux/bpf_common.h
_SPREAD = 2654435761  # 2**32 over the golden ratio: neighbours part (Knuth, TAOCP 3, 6.4)
_HIGH = 16  # bits that are dropped of the product: the low ones are not spread


def choose_by_address(sockets: Sequence[socket.socket]) -> None:
    """Have the group of these, all there are of it, share clients out so. Raises OSError."""
    program = _program(sockets[0].family, len(sockets))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    # struct sock_fprog: how many instructions, and where they are.
    given = struct.pack("@HP", len(program), ctypes.addressof(code))
    sockets[0].setsockopt(socket.SOL_SOCKET, _ATTACH, given)


def _program(family: int, count: int) -> list[tuple[int, int, int, int]]:
    """``(source * _SPREAD >> _HIGH) % count``; of IPv6 the source is the sum of two words."""
    if family == socket.AF_INET6:
        load = [(_LOAD, 0, 0, _NETWORK + _V6_SOURCE), (_MULTIPLY, 0, 0, _SPREAD), (_TO_X, 0, 0, 0),
                (_LOAD, 0, 0, _NETWORK + _V6_SOURCE + 4), (_ADD_X, 0, 0, 0)]
    else:
        load = [(_LOAD, 0, 0, _NETWORK + _V4_SOURCE)]
    return [*load, (_MULTIPLY, 0, 0, _SPREAD), (_SHIFT, 0, 0, _HIGH), (_MODULO, 0, 0, count),
            (_RETURN, 0, 0, 0)]


def slot_of(host: str, count: int) -> int:
    """The slot, from 1 on, that a client of that address has among `count`."""
    if ":" in host:
        network = socket.inet_pton(socket.AF_INET6, host)
        word = int.from_bytes(network[:4], "big") * _SPREAD + int.from_bytes(network[4:8], "big")
    else:
        word = int.from_bytes(socket.inet_pton(socket.AF_INET, host), "big")
    return ((word * _SPREAD & 0xFFFFFFFF) >> _HIGH) % count + 1
