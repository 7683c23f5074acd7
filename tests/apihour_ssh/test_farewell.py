"""The last word to a client that has the server's version already."""

import asyncio

from apihour_ssh.farewell import Farewell


class Gone(asyncio.Transport):
    """The kernel knows of a reset, which nobody has read yet."""

    aborted = False

    def write(self, data):
        self.sent = data

    def can_write_eof(self):
        return True

    def write_eof(self):
        raise OSError(107, "Transport endpoint is not connected")

    def is_closing(self):
        return self.aborted

    def abort(self):
        self.aborted = True


async def test_one_that_has_reset_its_connection_is_ended_in_time(monkeypatch):
    monkeypatch.setattr("apihour_ssh.farewell._PATIENCE", 0)
    gone = Gone()
    Farewell("later", lambda: None).connection_made(gone)
    for _ in range(5):
        await asyncio.sleep(0)
    assert b"later" in gone.sent and gone.aborted
