"""``rollback`` to the release before, and ``reload --canary``, with real releases and links."""

import json
import shutil

import pytest

from apihour.testing import Load
from tests.system.shell_support import ctl
from tests.system.support import deploy, get


class Releases:
    """Copies of an application, one a release, and the link to the current one."""

    def __init__(self, app, directory):
        self.app, self.directory, self.link = app, directory, directory / "current"

    def __getitem__(self, name):
        return self.directory / "releases" / name

    def deploy(self, name, **files):
        """Make a release and switch to it, as deploys do: by renaming a new link over it."""
        shutil.copytree(self.app, self[name])
        deploy(self[name], name)
        for module, text in files.items():
            deploy(self[name], None, f"{module}.py", text)
        self.switch(name)

    def switch(self, name):
        new = self.directory / "new"
        new.symlink_to(self[name])
        new.rename(self.link)


@pytest.fixture
def releases(app, tmp_path):
    found = Releases(app, tmp_path)
    found.deploy("1")
    return found


def refused(daemon, *words):
    """The one line of a command that could not be done."""
    done = ctl(daemon, *words, timeout=60)
    assert done.returncode == 1 and done.stdout == "", done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def serves(daemon, version):
    """Wait until every worker serves that version; old ones may take a last connection."""
    daemon.wait(lambda: {get(daemon)["version"] for _ in range(6)} == {version}, version)


def test_two_rollbacks_in_a_row_lose_nothing_and_outlive_workers(apihour_daemon, releases):
    daemon = apihour_daemon("house:Container", "--chdir", str(releases.link), console=True)
    for name in ("2", "3"):
        releases.deploy(name)
        assert daemon.reload().ok
        serves(daemon, name)
    with Load("keep-alive", daemon.address("http"), connections=4, think=0.005) as load:
        load.wait_answers(20)
        for name in ("2", "1"):
            done = ctl(daemon, "rollback", "--json", timeout=60)
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)[0]["release"] == str(releases[name])
            serves(daemon, name)
        load.wait_answers(20)
    assert not load.report.lost, load.report
    assert "those that a rollback has left" in refused(daemon, "rollback")
    pids = {daemon.kill(one) for one in daemon.workers("serving")}
    daemon.wait(lambda: len({one.pid for one in daemon.workers("serving")} - pids) == 2, "others")
    serves(daemon, "1")
    # A reload enters the link, wherever that points by now: forward, and back to an old one.
    assert daemon.reload().ok
    serves(daemon, "3")
    releases.switch("2")
    assert daemon.reload().ok
    serves(daemon, "2")


def test_rollback_after_an_upgrade_and_what_is_gone_or_never_was(apihour_daemon, releases):
    daemon = apihour_daemon("house:Container", "--template", cwd=releases.link, console=True,
                            env={"PWD": str(releases.link)})
    assert f"all generations ran in {str(releases['1'])!r}" in refused(daemon, "rollback")
    releases.deploy("2")
    assert daemon.upgrade().ok
    serves(daemon, "2")
    assert daemon.request("rollback").ok
    serves(daemon, "1")
    daemon.kill(daemon.workers("serving")[0])  # its replacement is of the release, too
    daemon.wait_ready()
    serves(daemon, "1")
    releases.deploy("3")
    assert daemon.reload().ok
    shutil.rmtree(releases["1"])
    assert f"{str(releases['1'])!r} is gone" in refused(daemon, "rollback")
    serves(daemon, "3")


def test_a_rollback_ends_a_reload_under_way(apihour_daemon, releases):
    daemon = apihour_daemon("house:Container", "--chdir", str(releases.link), console=True)
    with Load("connection", daemon.address("http"), connections=2, think=0.005) as load:
        releases.deploy("2", version="import time\ntime.sleep(30)\nVERSION = '2'\n")
        daemon.reload(wait=False)
        daemon.wait(lambda: "Handling signal: hup" in daemon.log, "the reload")
        done = ctl(daemon, "rollback", "--json", timeout=60)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)[0]["release"] == str(releases["1"])
        load.wait_answers(20)
    assert not load.report.lost, load.report
    assert "Reload refused, the old workers stay: ended by a rollback" in daemon.log
    assert {get(daemon)["version"] for _ in range(4)} == {"1"}


def test_reload_with_a_canary_that_the_options_do_not_ask_for(apihour_daemon, app):
    daemon = apihour_daemon("house:Container", "--canary-time", "20", cwd=app, console=True)
    house = (app / "house.py").read_text()
    deploy(app, None, "house.py", house.replace(
        '    return {"pid": os.getpid(), "version": VERSION}', "    return Response(503)"))
    with Load("connection", daemon.address("http"), connections=4, think=0.005):
        done = ctl(daemon, "reload", "--canary", "1", timeout=60)
    assert done.returncode == 1 and "canary: " in done.stderr and "were 5xx" in done.stderr
    assert "1 canary workers ready" in daemon.log
    done = ctl(daemon, "reload", "--canary", "-1")
    assert done.returncode == 2 and "--canary -1: expected a number" in done.stderr, done.stderr
