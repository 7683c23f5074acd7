"""Refusals: what is wrong is answered in its turn, then the connection closes."""

from __future__ import annotations

from time import monotonic, time
from typing import Any

from apihour_http.access import AccessLog
from apihour_http.connection.states import DISCARDING
from apihour_http.direct import log_request
from apihour_http.errors import BadRequest, HTTPError
from apihour_http.request import Request

__all__ = ["END", "refuse", "send_refusal"]

# In place of a refusal: the client sends no more, and has had all its answers.
END = BadRequest("")


def refuse(lane: Any, error: HTTPError) -> None:
    """Answer `error` after everything that came before it, then close."""
    answers = lane.answers
    lane.service.counters.refused += 1
    pending = lane.intake.drop()
    if pending is not None and type(pending) is not Request:
        pending.fail(error)
        if pending is answers.current:
            # Its handler may be answering already: the connection closes after it.
            error = BadRequest("")
        elif pending in answers.queue:
            answers.queue.remove(pending)
        elif pending.answered:
            error = BadRequest("")
    answers.refusal, answers.refused = error, pending
    lane.become(DISCARDING)
    if answers.current is None and not answers.queue:
        send_refusal(lane)


def send_refusal(lane: Any) -> None:
    """Send the refusal whose turn has come; an empty one only closes."""
    answers = lane.answers
    if answers.refusal is END:
        answers.refusal = None
        lane.close()
        return
    error, answers.refusal = answers.refusal, None
    refused, answers.refused = answers.refused, None
    if error is None or lane.transport is None or lane.transport.is_closing():
        return
    if error.detail or not isinstance(error, BadRequest):
        service = lane.service
        status, size, data, _ = service.renderer.render(error, "Connection: close\r\n", False)
        lane.write(data)
        service.counters.classes[status // 100] += 1
        if service.log is not None:
            _log(lane, refused, status, size, service.log)
    lane.close_discarding()


def _log(lane: Any, refused: Any, status: int, size: int, log: AccessLog) -> None:
    now = monotonic()
    intake = lane.intake
    if refused is None:
        since = intake.head_since if intake.head_bytes else intake.arrived
        log.add((time(), lane.remote(), "-", "-", "-", status, size, now - since, None, None))
    elif type(refused) is Request:
        log_request(lane, refused, status, size, now)
    else:
        refused.log(log, status, size, now)
