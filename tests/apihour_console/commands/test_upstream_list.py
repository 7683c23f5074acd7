"""``upstreams``: what the workers' proxies say of theirs, as one row for each."""

from apihour_console.commands.upstream_list import summed


def rows(worker, **figures):
    return [{"worker": worker, "server": "db", "name": name, "value": value}
            for name, value in figures.items()]


def of(up, connections=0, **more):
    figures = {"up": up, "connections": dict.fromkeys(up, connections), "accepted": {}, **more}
    return {f"upstream_{name}": value for name, value in figures.items()}


def test_workers_are_summed_and_who_is_down_is_on_top():
    found = summed([
        *rows("1.1", **of({"a:1": 1, "b:2": 1, "c:3": 0}, 2, failed={"c:3": 4}), unserved=3),
        *rows("2.1", **of({"a:1": 1, "b:2": 0, "c:3": 0}, 1, bytes_in={"a:1": 7})),
    ])
    assert [(one.upstream, one.state, one.connections, one.workers) for one in found] == [
        ("b:2", "up in 1 of 2", 3, 2), ("c:3", "down", 3, 2), ("a:1", "up", 3, 2)]
    assert [one.failed for one in found] == [0, 4, 0]
    assert (found[2].bytes_in, found[2].bytes_out, found[2].server) == (7, 0, "db")


def test_servers_without_upstreams_have_no_row():
    assert summed(rows("1.1", requests=5, upstream_up=3)) == []
