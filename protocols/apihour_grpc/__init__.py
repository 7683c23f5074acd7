"""gRPC services, by the code that grpcio's or grpclib's generator makes, over apihour's HTTP/2.

>>> server = GRPCServer()
>>> add_GreeterServicer_to_server(Greeter(), server)  # grpcio's generated code
>>> await server.start()
>>> await loop.create_server(server.stream, "127.0.0.1", 50051)

The same object serves in an apihour container; nothing here imports apihour.
"""

from apihour_grpc.server import GRPCServer

__all__ = ["GRPCServer"]
