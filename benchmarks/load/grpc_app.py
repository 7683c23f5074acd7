"""What ``grpc_calls.py`` has served: grpclib's health service, and one by grpcio's handlers."""

from __future__ import annotations

import asyncio
import sys

from grpclib.health.service import Health
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse


async def check(request, context):
    return HealthCheckResponse(status=HealthCheckResponse.SERVING)


def handlers():
    import grpc

    return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
        "Check": grpc.unary_unary_rpc_method_handler(
            check, HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString)})


async def ours(by_grpcio):
    from apihour_grpc import GRPCServer

    server = GRPCServer() if by_grpcio else GRPCServer(Health())
    if by_grpcio:
        server.add_generic_rpc_handlers((handlers(),))
    await server.start()
    listener = await asyncio.get_running_loop().create_server(server.stream, "127.0.0.1", 0)
    return listener.sockets[0].getsockname()[1]


async def main(kind):
    if kind == "grpclib":
        from grpclib.server import Server

        server = Server([Health()])
        await server.start("127.0.0.1", 0)
        port = server._server.sockets[0].getsockname()[1]
    elif kind == "grpcio":
        import grpc.aio

        server = grpc.aio.server()
        server.add_generic_rpc_handlers((handlers(),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
    else:
        port = await ours(kind == "apihour-grpcio")
    print(f"port {port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[1] == "grpcio":
        asyncio.run(main("grpcio"))  # its own loop thread does the work
    else:
        import uvloop

        uvloop.run(main(sys.argv[1]))
