"""Raw TCP, unix and UDP servers for asyncio: any protocol class, factory or stream callback.

>>> server = TCPServer(Echo)                       # class Echo(asyncio.Protocol)
>>> await server.start()
>>> await loop.create_server(server.stream, "127.0.0.1", 9000)

The same objects serve in an apihour container; nothing here imports apihour.
"""

from apihour_tcp.datagram import UDPServer
from apihour_tcp.library import LibraryServer
from apihour_tcp.server import TCPServer

__all__ = ["LibraryServer", "TCPServer", "UDPServer"]
