"""An application that logs, warns, blocks and fails in every way there is."""

import asyncio
import logging
import threading
import time
import warnings

import apihour

log = logging.getLogger("shop.orders")


class Echo(asyncio.Protocol):
    """Does what a line says, and echoes it when it can."""

    def connection_made(self, transport):
        self.transport = transport
        self.tasks = []

    def data_received(self, data):
        getattr(self, data.decode().strip())()
        self.tasks.clear()
        self.transport.write(data)

    def connection_lost(self, error):
        if self.tasks:
            raise RuntimeError("failed when it was lost")

    def say(self):
        log.info("an order came in")
        log.debug("of no interest")
        logging.warning("by the root logger")

    def task(self):
        self.tasks.append(asyncio.get_running_loop().create_task(self.fail()))

    async def fail(self):
        raise RuntimeError("a task failed")

    def raises(self):
        raise RuntimeError("the protocol failed")

    def thread(self):
        threading.Thread(target=self.raises).start()

    def warn(self):
        warnings.warn("a thing of the past", stacklevel=1)

    def block(self):
        time.sleep(0.7)


class Clock(asyncio.DatagramProtocol):
    def datagram_received(self, data, address):
        raise RuntimeError("the datagram failed")


class Container(apihour.Container):
    binds = {"echo": "127.0.0.1:0", "clock": "udp://127.0.0.1:0"}

    def make_servers(self):
        return {"echo": Echo, "clock": Clock}


class Plain(Container):
    """The same on asyncio's own loop."""

    @classmethod
    def make_event_loop(cls, config):
        return asyncio.new_event_loop()


class Configured(Container):
    """With a logging configuration of its own."""

    async def start(self):
        logging.basicConfig(format="MINE %(levelname)s %(name)s %(message)s", level="DEBUG")
