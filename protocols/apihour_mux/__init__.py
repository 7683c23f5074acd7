"""Several protocols on one port: the first bytes of a connection say which.

>>> mux = Mux({"http": application, "ssh": SSHServer(...), "default": Echo})
>>> await mux.start()
>>> await loop.create_server(mux.stream, "127.0.0.1", 8000)

The same object serves in an apihour container; nothing here imports apihour.
"""

from apihour_mux.matchers import MuxEntry
from apihour_mux.mux import Mux

__all__ = ["Mux", "MuxEntry"]
