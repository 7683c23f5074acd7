"""The numbers of a server, and the arithmetic of rates, without a clock."""

import pytest

from apihour_ssh.limits import Limits, TokenBucket, network_of


def test_bucket():
    bucket = TokenBucket(2.0, 3, 10.0)
    assert [bucket.take(10.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(10.4) is False
    assert bucket.take(10.5) is True
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]


def test_tokens_that_are_still_to_come_are_given_one_after_the_other():
    bucket = TokenBucket(2.0, 1, 10.0)
    waits = []
    for _ in range(4):
        waits.append(bucket.wait(10.0))
        bucket.reserve()
    assert waits == [0.0, 0.5, 1.0, 1.5]
    assert bucket.wait(11.0) == 1.0
    bucket.give_back()
    assert bucket.wait(11.0) == 0.5


@pytest.mark.parametrize(("address", "network"), [
    ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"),
    ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"), ("fe80::1%eth0", "fe80::/64"), ("", ""),
])
def test_network_of(address, network):
    assert network_of(address) == network


@pytest.mark.parametrize("numbers", [{"startups": (20, 0.3, 100)}, {"rate": "5"}, {"burst": -1}])
def test_a_limit_that_is_no_number_is_refused(numbers):
    (name, value), = numbers.items()
    with pytest.raises(TypeError) as caught:
        Limits(**numbers)
    assert str(caught.value) == f"{name}={value!r}; expected a number, 0 or more"
