"""Leases: of all processes together, given back by whoever dies."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import pytest

from apihour.errors import SharedError
from apihour.shared.leases import Leases, Wish

OTHER = """
import sys
from apihour.shared.leases import Leases, Wish
leases = Leases(sys.argv[1], int(sys.argv[2]))
for line in sys.stdin:
    word = line.strip()
    if word == "take":
        print(leases.take(), flush=True)
    elif word == "fork":
        import os, time
        if not os.fork():
            time.sleep(600)
        print("forked", flush=True)
    else:
        leases.wish(Wish[word])
        print(word, flush=True)
"""


class Other:
    """Another process that has the leases."""

    def __init__(self, path, limit):
        self.process = subprocess.Popen(
            [sys.executable, "-c", OTHER, str(path), str(limit)], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, start_new_session=True)

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "shared" / "leases" / "pg"


@pytest.fixture
def other(path):
    process = Other(path, 3)
    assert process.say("NOTHING") == "NOTHING"
    yield process
    process.close()


def test_all_processes_together_have_no_more_than_the_limit(path, other):
    leases = Leases(path, 3)
    mine = [leases.take(), leases.take()]
    theirs = other.say("take")
    assert {*map(str, mine), theirs} == {"0", "1", "2"}
    assert other.say("take") == "None" and leases.take() is None
    assert leases.taken() == 3 and leases.members() == 2 and leases.share() == 1
    leases.give_back(mine[0])
    assert other.say("take") == str(mine[0])
    leases.close()
    leases.close()


def test_who_is_killed_gives_back_his_share_though_a_fork_of_him_lives(path, other):
    leases = Leases(path, 3)
    assert [other.say("take") for _ in range(4)].count("None") == 1
    assert other.say("fork") == "forked"
    assert leases.take() is None and leases.share() == 1
    other.kill()
    assert [leases.take() is None for _ in range(4)] == [False, False, False, True]
    assert leases.members() == 1 and leases.share() == 3
    leases.close()


def test_wishes_are_seen_by_others_and_end_with_who_has_them(path, other):
    leases = Leases(path, 3)

    def wished():
        return [wish.name for wish in (Wish.MORE, Wish.SHARE) if leases.is_wished(wish)]

    leases.wish(Wish.SHARE)
    assert wished() == []  # those of the others
    assert other.say("MORE") == "MORE" and wished() == ["MORE"]
    assert other.say("SHARE") == "SHARE" and wished() == ["SHARE"]
    assert other.say("NOTHING") == "NOTHING" and wished() == []
    assert other.say("SHARE") == "SHARE" and wished() == ["SHARE"]
    other.kill()
    assert wished() == []
    leases.close()


def test_a_directory_that_vanished_and_came_again_has_the_same_leases(path):
    leases = Leases(path, 3)
    held = {leases.take(), leases.take()}
    assert leases.mend() == set()
    shutil.rmtree(path.parent.parent)
    assert leases.mend() == set() and leases.held == held  # it is not there yet
    path.parent.parent.mkdir()
    newer = Other(path, 3)
    theirs = {int(newer.say("take")), int(newer.say("take"))}
    assert leases.mend() == held & theirs and leases.held == held - theirs
    assert leases.members() == 2 and leases.taken() == 2 + len(held - theirs)
    leases.close()
    newer.close()


def test_one_that_is_not_held_is_not_given_back(path):
    leases = Leases(path, 2)
    leases.give_back(1)
    assert leases.held == set() and leases.taken() == 0
    leases.close()


@pytest.mark.parametrize("limit", [0, -1, 100_001])
def test_a_limit_out_of_range(path, limit):
    with pytest.raises(SharedError, match="expected 1 to 100000"):
        Leases(path, limit)


def test_a_place_where_none_can_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SharedError, match=r"leases .*file"):
        Leases(tmp_path / "file" / "pg", 2)
