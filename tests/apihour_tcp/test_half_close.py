"""Half closing a connection whose client may be gone."""

import asyncio
from types import SimpleNamespace

from apihour_tcp import TCPServer


async def test_half_closing_one_that_has_reset_it_is_no_failure(caplog):
    class Gone(asyncio.Transport):
        def can_write_eof(self):
            return True

        def write_eof(self):
            raise OSError(107, "Transport endpoint is not connected")

        def get_protocol(self):
            return asyncio.Protocol()

    server = TCPServer(asyncio.Protocol, half_close=True)
    server._goodbye(SimpleNamespace(transport=Gone(), peer="a client"), set())
    assert not caplog.records
