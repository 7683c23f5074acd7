"""amqtt: a broker. Its clients must meet, so it is served in one worker."""

from amqtt.broker import Broker

import apihour
from apihour_tcp import LibraryServer

CONFIG = {"listeners": {"default": {"type": "tcp", "bind": "127.0.0.1:1883"}},
          "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {}}}


class Container(apihour.Container):
    binds = {"mqtt": "127.0.0.1:1883"}
    single = {"mqtt"}

    def make_servers(self):
        return {"mqtt": LibraryServer(
            lambda: start(Broker(CONFIG)), stop=lambda broker: broker.shutdown())}


async def start(broker):
    await broker.start()
    return broker
