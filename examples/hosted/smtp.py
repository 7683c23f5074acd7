"""aiosmtpd: its SMTP class is a protocol, made anew for each connection."""

from aiosmtpd.handlers import Debugging
from aiosmtpd.smtp import SMTP

import apihour


class Container(apihour.Container):
    binds = {"smtp": "127.0.0.1:8025"}

    def make_servers(self):
        return {"smtp": lambda: SMTP(Debugging(), hostname="mail.example")}
