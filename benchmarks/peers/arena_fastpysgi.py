"""The bare applications of the profiles, ASGI and WSGI, on fastpysgi.

``python arena_fastpysgi.py arena_asgi|arena_wsgi PORT [CERTIFICATE KEY]``
"""

from __future__ import annotations

import importlib
import sys

import fastpysgi

LARGEST = 32 << 20  # bytes of an upload

if __name__ == "__main__":
    name, port, *pair = sys.argv[1:]
    fastpysgi.server.max_content_length = LARGEST
    fastpysgi.server.delete_all_binds()
    fastpysgi.server.add_bind("127.0.0.1", int(port), *([(*pair, None)] if pair else []))
    fastpysgi.run(importlib.import_module(name).app)
