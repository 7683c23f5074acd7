"""What all tests share: the fixtures that start daemons, and an interrupt that is heard."""

import signal

pytest_plugins = ["apihour.testing.plugin"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell ignores it for what it runs in the background, and so would every process here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
