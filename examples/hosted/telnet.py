"""telnetlib3: a shell of telnet, by a coroutine of reader and writer."""

import telnetlib3

import apihour
from apihour_tcp import LibraryServer


async def shell(reader, writer):
    writer.write("What is your name? ")
    name = await reader.readline()
    writer.write(f"\r\nHello, {name.strip()}!\r\n")
    writer.close()


class Container(apihour.Container):
    binds = {"telnet": "127.0.0.1:6023"}

    def make_servers(self):
        return {"telnet": LibraryServer(lambda: telnetlib3.create_server(
            shell=shell, connect_maxwait=0.1))}
