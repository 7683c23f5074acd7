"""Stream connections passed on to other servers: found by DNS, checked, balanced.

>>> proxy = Proxy("db.internal:5432")
>>> await proxy.start()
>>> await loop.create_server(proxy.stream, "127.0.0.1", 5432)

The same object serves in an apihour container; nothing here imports apihour.
"""

from apihour_proxy.proxy import Proxy

__all__ = ["Proxy"]
