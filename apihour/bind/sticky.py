"""Which of a bind's sockets a client gets: by its address, chosen in the kernel.

Rules:

- The sockets of a ``?sticky`` bind are one group of SO_REUSEPORT (socket(7)), in the order of their
  slots, and none is closed while another lives. So a number of the group is a slot, for good.
- A program of classic BPF chooses it for each new connection, or datagram, of IPv4 by the source
  address, of IPv6 by its /64: no process is asked, and nothing is remembered.
- The program is the group's, and knows how many there are: more sockets, another program. It takes
  no client from one old socket to another, only to new ones (consistent hashing): from the last
  down, each socket takes its share of the clients that those after it have left.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

from apihour.errors import BindError

if TYPE_CHECKING:
    from apihour.bind.listeners import Listener

__all__ = ["choose_by_address", "share_out_groups", "slot_of"]

_ATTACH = 51  # SO_ATTACH_REUSEPORT_CBPF of asm-generic/socket.h
_NETWORK = 0xFFF00000  # SKF_NET_OFF of linux/filter.h: from the IP header on
_V4_SOURCE, _V6_SOURCE = 12, 8  # where it stands there (RFC 791 3.1, RFC 8200 3)
_LOAD, _TO_X, _MULTIPLY, _ADD_X, _SHIFT, _XOR, _XOR_X, _KEEP, _KEPT, _UNLESS, _RETURN = (
    0x20, 0x07, 0x24, 0x0C, 0x74, 0xA4, 0xAC, 0x02, 0x60, 0x35, 0x06)  # of linux/bpf_common.h;
# "unless at least": so many instructions are left out then
_SPREAD = 2654435761  # 2**32 over the golden ratio: neighbours part (Knuth, TAOCP 3, 6.4)
_MIX = 2246822507  # another odd one: a client's numbers for two sockets are unrelated
_HALF = 15  # bits by which the high ones, which are spread, come to the low ones
_WORD = 1 << 32


def share_out_groups(listeners: Sequence[Listener], spared: Sequence[Listener]) -> None:
    """Have each group of these without one of the `spared` share clients out. Raises BindError."""
    for name, address in {(x.name, x.address): None for x in listeners if x.address.sticky}:
        group = [one for one in listeners if (one.name, one.address) == (name, address)]
        if any(one in spared for one in group):
            continue
        try:
            choose_by_address([one.sock for one in group])  # in the order of their slots
        except OSError as error:
            raise BindError(f"bind {address}: the system does not choose a socket by address "
                            f"({error.strerror}); expected a bind without sticky") from error


def choose_by_address(sockets: Sequence[socket.socket]) -> None:
    """Have the group of these, all there are of it, share clients out so. Raises OSError."""
    program = _program(sockets[0].family, len(sockets))
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in program))
    # struct sock_fprog: how many instructions, and where they are.
    given = struct.pack("@HP", len(program), ctypes.addressof(code))
    sockets[0].setsockopt(socket.SOL_SOCKET, _ATTACH, given)


def _program(family: int, count: int) -> list[tuple[int, int, int, int]]:
    """What :func:`slot_of` computes, less one; of IPv6 the source is the sum of two words."""
    if family == socket.AF_INET6:
        load = [(_LOAD, 0, 0, _NETWORK + _V6_SOURCE), (_MULTIPLY, 0, 0, _SPREAD), (_TO_X, 0, 0, 0),
                (_LOAD, 0, 0, _NETWORK + _V6_SOURCE + 4), (_ADD_X, 0, 0, 0)]
    else:
        load = [(_LOAD, 0, 0, _NETWORK + _V4_SOURCE)]
    program = [*load, (_MULTIPLY, 0, 0, _SPREAD), (_TO_X, 0, 0, 0), (_SHIFT, 0, 0, _HALF),
               (_XOR_X, 0, 0, 0), (_KEEP, 0, 0, 0)]
    for last in range(count - 1, 0, -1):
        program += [(_KEPT, 0, 0, 0), (_XOR, 0, 0, last * _SPREAD % _WORD), (_MULTIPLY, 0, 0, _MIX),
                    (_UNLESS, 1, 0, _WORD // (last + 1)), (_RETURN, 0, 0, last)]
    return [*program, (_RETURN, 0, 0, 0)]


def slot_of(host: str, count: int) -> int:
    """The slot, from 1 on, that a client of that address has among `count`."""
    if ":" in host:
        network = socket.inet_pton(socket.AF_INET6, host)
        word = int.from_bytes(network[:4], "big") * _SPREAD + int.from_bytes(network[4:8], "big")
    else:
        word = int.from_bytes(socket.inet_pton(socket.AF_INET, host), "big")
    word = word * _SPREAD % _WORD
    word ^= word >> _HALF
    for last in range(count - 1, 0, -1):
        if (word ^ last * _SPREAD % _WORD) * _MIX % _WORD < _WORD // (last + 1):
            return last + 1
    return 1
