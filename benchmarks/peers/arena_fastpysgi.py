"""The bare ASGI application of the profiles on fastpysgi.

``python arena_fastpysgi.py PORT [CERTIFICATE KEY]``
"""

from __future__ import annotations

import sys

import fastpysgi
from arena_asgi import app

if __name__ == "__main__":
    if len(sys.argv) > 2:
        fastpysgi.server.delete_all_binds()
        fastpysgi.server.add_bind("127.0.0.1", int(sys.argv[1]), (*sys.argv[2:4], None))
        fastpysgi.run(app)
    else:
        fastpysgi.run(app, host="127.0.0.1", port=int(sys.argv[1]))
