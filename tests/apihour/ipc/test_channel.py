"""The socketpair between arbiter and child."""

from __future__ import annotations

import os

from apihour.ipc.channel import Channel


def test_messages_go_both_ways_in_order() -> None:
    one, two = Channel.pair()
    one.send(event="a", n=1)
    one.send(event="b")
    assert two.receive() == [{"event": "a", "n": 1}, {"event": "b"}]
    assert two.receive() == []
    two.send(command="x")
    assert one.receive() == [{"command": "x"}]
    one.close()
    two.close()


def test_neither_end_passes_through_exec() -> None:
    one, two = Channel.pair()
    assert not os.get_inheritable(one.fileno())
    assert not os.get_inheritable(two.fileno())
    one.close()
    two.close()


def test_the_end_comes_after_what_was_sent() -> None:
    one, two = Channel.pair()
    one.send(event="last")
    one.close()
    assert two.receive() == [{"event": "last"}]
    assert two.receive() is None
    two.send(event="into the void")
    assert two.receive() is None
    two.close()


def test_a_full_pipe_queues_and_flush_goes_on() -> None:
    one, two = Channel.pair()
    for n in range(200):
        one.send(n=n, padding="x" * 10_000)
    received = []
    while len(received) < 200:
        messages = two.receive()
        assert messages is not None
        received += messages
        one.flush()
    assert [message["n"] for message in received] == list(range(200))
    one.close()
    two.close()
