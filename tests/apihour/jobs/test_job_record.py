"""Records of jobs as the store has them, which may be another version's, or nobody's."""

from __future__ import annotations

import pytest

from apihour.jobs.job_record import JobRecord

NONE = [
    b"", b"\xff", b"null", b"5", b"[]", b"x", b'{"next": "soon"}', b'{"next": null}',
    b'{"next": NaN}', b'{"began": Infinity}', b'{"token": Infinity}', b'{"runs": NaN}',
    b'{"next": %d}' % 9**400, b"[" * 100_000,
]


@pytest.mark.parametrize("data", NONE, ids=lambda data: data[:20].decode(errors="replace"))
def test_what_is_no_record_is_a_new_one(data: bytes) -> None:
    assert JobRecord.from_bytes(data) == JobRecord()


def test_a_record_comes_back_as_it_was() -> None:
    record = JobRecord(schedule="every 5m", next=1.5, token=3, worker="1.1")
    assert JobRecord.from_bytes(record.to_bytes()) == record
