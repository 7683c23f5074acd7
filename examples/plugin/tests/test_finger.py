"""What its author runs: the suite for plugins, and a test of the protocol's own."""

from apihour_finger import FingerServer

from apihour.testing.conformance import Conformance


class TestFinger(Conformance):
    closes = True

    def make(self):
        return FingerServer({"ann": "Ann, at her desk"})

    async def talk(self, reader, writer):
        writer.write(b"ann\r\n")
        assert await reader.read() == b"Ann, at her desk\r\n"
