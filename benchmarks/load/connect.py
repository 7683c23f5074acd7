"""Connections one after another to an echo server: open, one byte there and back, reset.

``python connect.py PORT SECONDS`` prints how many there were in a second.
"""

from __future__ import annotations

import socket
import struct
import sys
import time

# A reset leaves nothing in TIME_WAIT: else the ports run out within seconds.
RESET = struct.pack("ii", 1, 0)


def main(port: int, seconds: float) -> None:
    count, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.sendall(b"x")
            if sock.recv(1) != b"x":
                raise SystemExit("the connection was closed without an echo")
        count += 1
    print(count / passed)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
