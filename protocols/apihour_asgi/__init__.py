"""ASGI 3 applications (FastAPI, Starlette, Django...) over apihour's own HTTP/1 and WebSockets.

>>> server = ASGIServer(app)
>>> await server.start()                           # the application's lifespan startup
>>> await loop.create_server(server.stream, "127.0.0.1", 8000)

The same object serves in an apihour container; nothing here imports apihour.
"""

from apihour_asgi.lifespan import LifespanError
from apihour_asgi.server import ASGIServer

__all__ = ["ASGIServer", "LifespanError"]
