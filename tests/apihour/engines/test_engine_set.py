"""Engines in code, in the configuration, and both; and the container's part in their life."""

import pytest

from apihour.app.container import Container
from apihour.engines.engine_set import EngineSet, declare
from apihour.engines.postgres import Postgres
from apihour.errors import ConfigurationError

URL = "postgresql://app:hidden@db:5432/shop"


class Plain:
    """An engine of somebody else: its shape is enough."""

    kind = "plain"
    health = False

    def __init__(self, log=None, fails=""):
        self.log = log if log is not None else []
        self.fails = fails
        self.up = False

    def configured(self, options):
        return Plain(self.log, **options)

    async def start(self, context):
        self.log.append(f"start {context.name}")
        if self.fails:
            raise ConfigurationError(self.fails)
        self.up = True

    async def close(self):
        self.log.append("close")
        self.up = False

    def statistics(self):
        return {}


def test_the_configuration_makes_engines():
    found = declare({}, {"pg": {"url": URL, "max": 40}, "orders": {"url": URL},
                         "more": {"kind": "pg", "url": "env:LATER"}})
    assert {name: type(one) for name, one in found.items()} == {
        "pg": Postgres, "orders": Postgres, "more": Postgres}
    assert found["pg"].options.max == 40


def test_the_configuration_goes_before_the_code():
    found = declare({"pg": Postgres("postgresql://h/d", max=5, health=True)},
                    {"pg": {"url": URL, "max": 40}})
    assert (found["pg"].options.max, found["pg"].options.health) == (40, True)
    assert found["pg"].examine() == "db:5432/shop"


@pytest.mark.parametrize(("made", "sections", "said"), [
    ([], None, r"make_engines\(\) returned \[\]; expected a dict"),
    ({"pg": 5}, None, "engine 'pg': 5; expected one of apihour.engines"),
    ({"pg": Postgres}, None, "engine 'pg': .*Postgres.*; expected one of"),
    ({}, [], "engines: a list; expected a mapping"),
    ({}, {"pg": [1]}, "engines: 'pg': a list; expected a mapping of option"),
    ({}, {"pg": {"url": URL, "maxx": 4}}, "engines: 'pg': option 'maxx': expected one of"),
    ({}, {"pg": {"url": URL, "max": "many"}}, "engines: 'pg': max: a str; expected a whole"),
    ({}, {"x": {"url": "ftp://hidden@h"}}, "engines: 'x': expected its kind: one of .*pg"),
    ({}, {"x": {"kind": "oracle"}}, "engines: 'x': kind 'oracle'; expected one of .*pg"),
    ({"x": Plain()}, {"x": {"maxx": 1}}, "engines: 'x': .*maxx"),
])
def test_what_cannot_be_an_engine(made, sections, said):
    with pytest.raises(ConfigurationError, match=said) as failure:
        declare(made, sections)
    assert "hidden" not in str(failure.value)


async def test_a_container_opens_them_and_closes_them_backwards():
    log = []

    class House(Container):
        async def make_engines(self):
            return {"a": Plain(log), "b": Plain(log)}

    house = House({"engines": {"b": {}}})
    await house.open_engines()
    assert house.engines["a"].up and house.engines["b"].up
    await house.close_made()
    assert log == ["start a", "start b", "close", "close"]


async def test_what_one_raises_is_raised_and_the_others_are_closed():
    log = []

    class House(Container):
        def make_engines(self):
            return {"a": Plain(log), "b": Plain(log, fails="engine 'b': gone")}

    house = House()
    with pytest.raises(ConfigurationError, match="engine 'b': gone"):
        await house.open_engines()
    await house.close_made()
    assert log[2:] == ["close", "close"]


async def test_a_container_without_engines_pays_nothing_for_them():
    house = Container()
    await house.open_engines()
    assert "_engine_set" not in vars(house)


async def test_a_close_that_fails_is_logged_and_does_not_stop_the_others(caplog):
    log = []

    class Bad(Plain):
        async def close(self):
            raise OSError("no")

    await EngineSet({"a": Plain(log), "b": Bad()}).close()
    assert log == ["close"] and "engine 'b': its close failed" in caplog.text
