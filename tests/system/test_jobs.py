"""Jobs of real workers: once for all of them, whoever is killed, stopped, or reloaded."""

import json
import os
import signal

import pytest

from tests.system.shell_support import ctl
from tests.system.support import refused, run

TIMED = '''
import asyncio, os, time

import apihour


def note(name, *words):
    number = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(number, (" ".join(map(str, words)) + "\\n").encode())
    os.close(number)


class Container(apihour.Container):
    binds = None

    def __init__(self, config, worker, loop):
        super().__init__({**config, "jobs": {"lease": 1}}, worker, loop)

    async def start(self):
        self.jobs.start(self.greet())

    async def greet(self):
        note("greeted", os.getpid())

    @apihour.every(0.25)
    async def tick(self, run):
        note("tick", run.due, os.getpid(), run.token)

    @apihour.every(0.3, misfire="once")
    async def long(self, run):
        note("long", "begin", os.getpid(), run.token)
        if os.path.exists("hold"):
            os.rename("hold", "held")
            while not os.path.exists("resume"):
                time.sleep(0.01)  # no turn of the loop until it has been stopped, and goes on
            try:
                await run.check()
            except apihour.JobError:
                note("long", "stale", os.getpid(), run.token)
                raise
        while os.path.exists("wait"):
            await asyncio.sleep(0.02)
        note("long", "end", os.getpid(), run.token)

    @apihour.cron("* * * * * *", zone="Europe/Brussels")
    async def broken(self):
        raise RuntimeError("no printer")
'''


def lines(app, name):
    path = app / name
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def ticks(app):
    return [(float(due), int(pid), int(token)) for due, pid, token in lines(app, "tick")]


def last(app, daemon, but=()):
    """Wait for the run of `long` that is under way in a process that is none of `but`."""
    def find():
        found = lines(app, "long")
        return found and found[-1][0] == "begin" and int(found[-1][1]) not in but and found[-1]
    _, pid, token = daemon.wait(find, "a run")
    return int(pid), int(token)


@pytest.fixture
def start(apihour_daemon, tmp_path):
    (tmp_path / "timed.py").write_text(TIMED)
    return lambda *options, **keywords: apihour_daemon(
        "timed:Container", *options, cwd=tmp_path, **keywords)


def test_each_time_runs_once_through_reloads_an_upgrade_and_a_kill(start, tmp_path):
    daemon = start()
    seen = []
    for step in (daemon.reload, daemon.reload, daemon.upgrade, None):
        count = len(ticks(tmp_path))
        daemon.wait(lambda count=count: len(ticks(tmp_path)) > count + 2, "runs")
        seen.append({one.pid for one in daemon.workers("serving")})
        if step is not None:
            outcome = step()
            assert outcome.ok, outcome.error
    daemon.kill(ticks(tmp_path)[-1][1])
    count = len(ticks(tmp_path))
    daemon.wait(lambda: len(ticks(tmp_path)) > count + 3, "runs after the kill")
    daemon.wait_log("job 'broken' failed")
    assert daemon.terminate() is None  # the new arbiter is no child
    found = ticks(tmp_path)
    assert len({due for due, _, _ in found}) == len(found)
    tokens = [token for _, _, token in found]
    assert tokens == sorted(set(tokens))
    for generation in seen:  # each had its part
        assert generation & {pid for _, pid, _ in found}
    assert {int(pid) for (pid,) in lines(tmp_path, "greeted")} >= set().union(*seen)
    assert "RuntimeError: no printer" in daemon.log
    for line in daemon.lines:
        told = ("'broken' failed", "SIGKILL", "its run was lost")  # by the kill, if one was
        assert "[ERROR]" not in line or any(one in line for one in told), line


def test_killed_in_the_middle_its_run_begins_anew_elsewhere(start, tmp_path):
    (tmp_path / "wait").touch()
    daemon = start()
    pid, token = last(tmp_path, daemon)
    daemon.kill(pid)
    other, later = last(tmp_path, daemon, but={pid})
    assert later > token
    (tmp_path / "wait").unlink()
    daemon.wait(lambda: ["end", str(other), str(later)] in lines(tmp_path, "long"), "its end")


def test_a_worker_that_was_stopped_wakes_up_with_a_stale_token(start, tmp_path):
    (tmp_path / "hold").touch()
    daemon = start()
    daemon.wait((tmp_path / "held").exists, "a run")
    pid, token = last(tmp_path, daemon)
    daemon.stop(pid)
    (tmp_path / "wait").touch()
    other, later = last(tmp_path, daemon, but={pid})
    assert later > token
    (tmp_path / "resume").touch()
    daemon.cont(pid)
    daemon.wait(lambda: ["stale", str(pid), str(token)] in lines(tmp_path, "long"), "its waking")
    daemon.wait_log("job 'long' failed")
    (tmp_path / "wait").unlink()
    daemon.wait(lambda: ["end", str(other), str(later)] in lines(tmp_path, "long"), "its end")
    assert ["end", str(pid), str(token)] not in lines(tmp_path, "long")


def test_a_drain_waits_and_two_daemons_have_jobs_of_their_own(start, tmp_path, apihour_daemon):
    beside = tmp_path / "beside"
    beside.mkdir()
    (beside / "timed.py").write_text(TIMED)
    (tmp_path / "wait").touch()
    daemon = start("--graceful-timeout", "20")
    other = apihour_daemon("timed:Container", cwd=beside)
    pid, token = last(tmp_path, daemon)
    other.wait(lambda: len(ticks(beside)) > 2, "runs of the other")
    daemon.signal(signal.SIGTERM)
    daemon.wait(lambda: pid in {one.pid for one in daemon.workers("draining")}, "the drain")
    count = len(ticks(beside))
    other.wait(lambda: len(ticks(beside)) > count + 2, "runs of the other")
    (tmp_path / "wait").unlink()
    assert daemon.wait_exit() == 0
    assert lines(tmp_path, "long")[-1] == ["end", str(pid), str(token)]


def test_the_shell_lists_runs_pauses_and_resumes(start, tmp_path):
    (tmp_path / "wait").touch()
    daemon = start(console=True)
    pid, _ = last(tmp_path, daemon)

    def jobs(*words):
        done = ctl(daemon, "jobs", *words, "--json")
        assert done.returncode == 0, done.stderr
        return {row["job"]: row for row in json.loads(done.stdout)}

    daemon.wait(lambda: jobs()["broken"]["failures"], "a failure")
    found = jobs()
    assert sorted(found) == ["broken", "long", "tick"]
    assert found["long"]["state"] == "running"
    assert found["long"]["worker"] in {
        one.worker for one in daemon.workers("serving") if one.pid == pid}
    assert found["broken"]["schedule"] == "* * * * * * Europe/Brussels"
    assert found["broken"]["result"] in ("", "failed: RuntimeError: no printer")
    assert "job 'broken' failed: RuntimeError: no printer" in ctl(daemon, "events").stdout
    assert found["tick"]["next"].endswith("Z")
    refusal = ctl(daemon, "jobs", "long", "run")
    assert refusal.returncode == 1
    assert "job 'long': runs already, in worker" in refusal.stderr
    assert "expected broken, long, tick" in ctl(daemon, "jobs", "lung").stderr
    assert "run|pause|resume" in ctl(daemon, "help", "jobs").stdout

    assert jobs("tick", "pause")["tick"]["state"] == "paused"
    daemon.wait(lambda: jobs()["tick"]["state"] == "paused", "its last run's end")
    count = len(ticks(tmp_path))
    jobs("tick", "run")
    daemon.wait(lambda: len(ticks(tmp_path)) == count + 1, "the run by hand")
    assert jobs("tick", "resume")["tick"]["state"] in ("waiting", "running")
    daemon.wait(lambda: len(ticks(tmp_path)) > count + 2, "runs again")
    os.unlink(tmp_path / "wait")


def test_a_job_that_cannot_be_is_refused_by_check_and_start(tmp_path):
    (tmp_path / "timed.py").write_text(TIMED.replace("0.25", "'5 minutes'"))
    for words in (["check"], []):
        line = refused(*words, "timed:Container", cwd=tmp_path)
        assert "interval '5 minutes'; expected 0.1 s to 366 days, as '30s', '5m'" in line
    (tmp_path / "timed.py").write_text(TIMED.replace('"lease"', '"leese"'))
    assert "jobs: {'leese': 1}" in refused("check", "timed:Container", cwd=tmp_path)
    (tmp_path / "timed.py").write_text(TIMED)
    assert run("check", "timed:Container", cwd=tmp_path).returncode == 0
