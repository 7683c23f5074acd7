"""A client for tests: of routes and containers in memory, or of a server that runs somewhere.

>>> async with Client(routes) as client:
...     answer = await client.get("/hello/you")
...     assert answer.status == 200 and answer.json() == {"hello": "you"}
"""

from apihour_http.testing.answer import Answer
from apihour_http.testing.client import Client

__all__ = ["Answer", "Client"]
