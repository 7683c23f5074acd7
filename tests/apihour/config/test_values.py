"""What the value of an option may be."""

from __future__ import annotations

from typing import Any

import pytest

from apihour.config import judging, rare_values, values
from apihour.config.values import WorkerCount


@pytest.mark.parametrize(("validate", "good", "bad"), [
    (values.validate_workers, {"4": WorkerCount(4, 4), "2..8": WorkerCount(2, 8)},
     ["0", "-1", "8..2", "129", "two", "1.5", None]),
    (rare_values.seconds(), {"10": 10.0, "0.5s": 0.5, "2m": 120.0, 3: 3.0}, ["-1", "1d", "", None]),
    (rare_values.seconds(0.1), {"0.1": 0.1, "8760h": 31536000.0},
     ["0", "0.05", "31536001", "8761h"]),
    (judging.validate_syslog_address, {"udp://h:1": "udp://h:1", "unix:///l": "unix:///l"},
     ["h:1", "", "tcp://h:x", 5]),
    (judging.validate_syslog_facility, {"LOCAL0": "LOCAL0", "user": "user"}, ["nope", "", 5]),
    (rare_values.validate_bytes, {"1": 1, "2k": 2048, "3M": 3 * 2**20, "1GiB": 2**30, 5: 5},
     ["-1", "1T", "x", "1.5G", None]),
    (rare_values.validate_count, {"0": 0, 12: 12}, ["-1", "1.5", "x", None]),
    (rare_values.validate_share, {"0": 0.0, "0.05": 0.05, "5%": 0.05, 1: 1.0},
     ["-1", "2", "101%", "nan", "inf", "x", None]),
    (values.validate_switch, {True: True, "off": False, "YES": True, 0: False},
     ["maybe", "", None, 2]),
    (values.validate_text, {"x": "x", "": None, None: None}, [1, b"x"]),
    (rare_values.validate_plain_address, {"[::1]:1?backlog=9": "[::1]:1?backlog=9", None: None},
     [":1?tls", "unix:x?mode=600&tls=c.pem", "nope", "udp://:1", 5]),
    (values.validate_binds, {"a=:1, :2": ["a=:1", ":2"], None: [], (":1",): [":1"]},
     ["nope", 5, (5,), {"a": ":1"}]),
    (judging.validate_environment, {"A=1": ["A=1"], ("A=", "B=2=3"): ["A=", "B=2=3"], None: []},
     ["A", "=1", 5, {"A": "1"}]),
])
def test_validators(validate: Any, good: dict[Any, Any], bad: list[Any]) -> None:
    for value, expected in good.items():
        assert validate(value) == expected
    for value in bad:
        with pytest.raises(ValueError, match="; expected ") as caught:
            validate(value)
        named = str(caught.value).partition("; expected ")[0]
        assert named in (repr(value), "5", "0 s")
