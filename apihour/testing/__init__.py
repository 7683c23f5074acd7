"""Tests with real workers: a daemon to start, hurt and reload, and a load that counts losses.

::

    def test_deploy_loses_nothing(apihour_daemon):
        daemon = apihour_daemon("shop:Container", "-b", "http=127.0.0.1:0", workers=2)
        with Load("keep-alive", daemon.address("http"), connections=8) as load:
            load.wait_answers(100)
            assert daemon.reload().ok
            load.wait_answers(100)
        assert not load.report.lost, load.report

The plugin is found by pytest through its entry point; ``-p apihour.testing.plugin``
loads it by hand. Fixtures: ``apihour_daemon`` and, living as long as a test module,
``apihour_module_daemon``; both are functions that start a :class:`Daemon`. Every process of
a daemon is ended by its pid when the fixture goes, however the test went, and a failed test
shows what its daemons logged.

Needs Linux; pytest only for the fixtures: ``with Daemon(...) as daemon`` works anywhere.
May import from worker down.
"""

from __future__ import annotations

from apihour.testing.daemon import Daemon, Outcome
from apihour.testing.load import Failure, Load, Report

__all__ = ["Daemon", "Failure", "Load", "Outcome", "Report"]

