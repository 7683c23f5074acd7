"""What stays in the process of a session that has ended: nothing that grows with their number."""

from __future__ import annotations

import gc

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Filter

from apihour_console.shell.audit import AuditLog
from tests.apihour_console.memory import Operator
from tests.apihour_console.support import LOGGER, FakeFleet


async def one_session() -> None:
    operator = Operator(FakeFleet(), AuditLog(None, LOGGER))  # type: ignore[arg-type]
    await operator.expect("> ?")
    await operator.type("workers\r")
    await operator.expect("serving")
    operator.send("\x04")
    await operator.ended()
    await operator.close()


def kept() -> tuple[int, int]:
    gc.collect()
    found = [type(one) for one in gc.get_objects()]  # isinstance() would wake lazy objects
    return (sum(issubclass(one, Buffer) for one in found),
            sum(issubclass(one, Filter) for one in found))


async def test_a_session_that_has_ended_keeps_no_memory() -> None:
    for _ in range(2):
        await one_session()
    buffers, filters = kept()
    for _ in range(5):
        await one_session()
    now = kept()
    assert now[0] - buffers < 5 and now[1] - filters < 5, (buffers, filters, now)
