"""What a factory makes is seen when the server starts, not at the first client's cost."""

import asyncio

import pytest

from apihour_tcp import TCPServer


class Stream(asyncio.Protocol):
    pass


def fails():
    raise ValueError("no such table")


@pytest.mark.parametrize(("factory", "message"), [
    (lambda: 42, "returned 42, expected a protocol with connection_made() and data_received()"),
    (lambda: Stream, "Stream'>, expected a protocol with connection_made()"),
    (lambda: asyncio.DatagramProtocol(), "expected a protocol with connection_made() and data_rec"),
    (fails, "fails failed: ValueError: no such table (" + __file__ + ":"),
])
async def test_a_factory_is_refused_at_the_start(factory, message):
    with pytest.raises(TypeError) as caught:
        await TCPServer(factory).start()
    assert message in str(caught.value)
    assert str(caught.value).startswith("factory tests.apihour_tcp.test_trial.")
    assert "\n" not in str(caught.value)


async def test_once_and_not_where_the_annotation_says_it():
    calls = []

    def plain():
        calls.append("plain")
        return Stream()

    def annotated() -> Stream:
        calls.append("annotated")
        return Stream()

    await TCPServer(plain).start()
    await TCPServer(annotated).start()
    assert calls == ["plain"]
