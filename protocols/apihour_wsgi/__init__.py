"""WSGI applications (Flask, Django, any PEP 3333 callable) in threads, over apihour's HTTP/1.

>>> server = WSGIServer(app, threads=8)
>>> await server.start()
>>> await loop.create_server(server.stream, "127.0.0.1", 8000)

The same object serves in an apihour container; nothing here imports apihour.
"""

from apihour_wsgi.server import WSGIServer

__all__ = ["WSGIServer"]
