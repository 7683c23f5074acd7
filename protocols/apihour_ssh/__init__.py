"""SSH servers for asyncio, on asyncssh: hardened, limited, drained with a notice.

>>> server = SSHServer(process_factory=session, authorized_keys="keys/authorized_keys")
>>> await server.start()
>>> await loop.create_server(server.stream, "127.0.0.1", 8023)

The same object serves in an apihour container; nothing here imports apihour, and asyncssh
only when an SSHServer is made. :class:`Shell` declares where apihour's console listens.
"""

from apihour_ssh.admission import Admission
from apihour_ssh.hardening import COMPATIBLE, STRICT, Algorithms
from apihour_ssh.limits import Limits, TokenBucket
from apihour_ssh.server import SSHServer
from apihour_ssh.shell import Shell

__all__ = [
    "COMPATIBLE", "STRICT", "Admission", "Algorithms", "Limits", "SSHServer", "Shell",
    "TokenBucket",
]
