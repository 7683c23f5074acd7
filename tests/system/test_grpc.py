"""gRPC and HTTP/2 by real workers: the example answers, and a reload loses no call."""

import threading
from pathlib import Path

import grpc
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "grpc"


@pytest.fixture(scope="module")
def daemon(apihour_module_daemon):
    return apihour_module_daemon(
        "greeter:Container", "-b", "grpc=127.0.0.1:0", cwd=EXAMPLE, workers=2)


def method(channel, name, kind="unary_unary"):
    return getattr(channel, kind)(f"/hello.Greeter/{name}")


def request(name):
    """A GreetRequest, by hand: the generated code is the daemon's."""
    return b"\x0a" + bytes((len(name),)) + name


def test_the_example_answers(daemon):
    with grpc.insecure_channel(daemon.address("grpc")) as channel:
        greet = method(channel, "Greet")
        first = greet(request(b"you"), timeout=30)
        assert b"hello you, " in first
        assert greet(request(b"you"), timeout=30) != first
        counted = method(channel, "Count", "unary_stream")(request(b"n"), timeout=30)
        assert [reply[2:] for reply in counted] == [b"n 0", b"n 1", b"n 2"]
        with pytest.raises(grpc.RpcError) as caught:
            greet(b"", timeout=30)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_reload_loses_no_call(daemon):
    stopped = threading.Event()
    done, failed = [], []

    def load():
        with grpc.insecure_channel(daemon.address("grpc")) as channel:
            greet = method(channel, "Greet")
            while not stopped.is_set():
                try:
                    done.append(greet(request(b"x"), timeout=30))
                except grpc.RpcError as error:
                    failed.append(error)

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        daemon.wait(lambda: len(done) > 50, "the first calls")
        daemon.reload()
        before = len(done)
        daemon.wait(lambda: len(done) > before + 50, "calls by the new workers")
    finally:
        stopped.set()
        for thread in threads:
            thread.join(30)
    assert failed == []
