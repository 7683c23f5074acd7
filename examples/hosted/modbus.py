"""pymodbus: a device of registers; the server opens its own port."""

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

import apihour
from apihour_tcp import LibraryServer

REGISTERS = SimDevice(1, simdata=[SimData(0, values=17, count=100, datatype=DataType.REGISTERS)])


async def start():
    server = ModbusTcpServer(REGISTERS)
    await server.serve_forever(background=True)
    return server


class Container(apihour.Container):
    binds = {"modbus": "127.0.0.1:5020"}

    def make_servers(self):
        return {"modbus": LibraryServer(start, stop=lambda server: server.shutdown())}
