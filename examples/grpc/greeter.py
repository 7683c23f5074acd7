"""gRPC in a container: a unary and a streaming method, with a counter for all workers.

Run it in this directory: ``apihour greeter:Container``; it needs ``pip install 'apihour[grpc]'
grpcio-tools``. The code of ``hello.proto`` is generated here when it is imported; for a deployment
it is generated once::

    python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. hello.proto
"""

import grpc

import apihour
from apihour_grpc import GRPCServer

hello_pb2, hello_pb2_grpc = grpc.protos_and_services("hello.proto")


class Greeter(hello_pb2_grpc.GreeterServicer):
    async def Greet(self, request, context):
        if not request.name:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "name: expected one")
        seen = await context.container.shared.incr("greetings")
        return hello_pb2.GreetReply(text=f"hello {request.name}, {seen}")

    async def Count(self, request, context):
        for number in range(3):
            yield hello_pb2.GreetReply(text=f"{request.name} {number}")


class Container(apihour.Container):
    binds = {"grpc": "127.0.0.1:50051"}

    def make_servers(self):
        server = GRPCServer()
        hello_pb2_grpc.add_GreeterServicer_to_server(Greeter(), server)
        return {"grpc": server}
