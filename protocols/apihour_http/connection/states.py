"""The states of an HTTP/1 connection, and what may be read, started, refused and closed in each.

What comes next from the client decides the state:

- PARSING: HTTP; it goes straight to the parser. The only state in which a request that is
  complete may start at once, if nothing is before it: nothing is being answered, nothing
  waits, and the client takes its answers. That is when a connection is ``ready``.
- HOLDING: HTTP, of which more has come than is parsed at a stretch. The rest is held and
  parsed in slices, each when nothing waits for an answer; what comes is put behind it.
- UPGRADING: what follows the request for a WebSocket, and is kept until its handler has said
  whether it is one. Declined, it was HTTP all along.
- UPGRADED: the handler's. Nothing is parsed, and HTTP's deadlines are no longer ours.
- DISCARDING: nobody's. There was the last request, a refusal, or the client's end. Answers
  that are due still leave, in their order; input is read and thrown away, within limits, so
  that they are not destroyed by a reset (RFC 9112 9.6).
- CLOSED: the transport is gone.

DISCARDING and CLOSED are where a connection ends: whatever would change the state of one that
discards finds it discarding still. From the others only the moves of the table are possible.

::

                 bytes go to   starts   parsed   its end of file     moves to
    PARSING      the parser    yes      yes      answers still go    all
    HOLDING      what is held  waits    yes      answers still go    all
    UPGRADING    the tail      no       later    closes it           PARSING UPGRADED
    UPGRADED     the handler   no       no       closes it           (the end)
    DISCARDING   nobody        waits    no       closes it           (the end)
    CLOSED       nobody        no       no       -                   -
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CLOSED", "DISCARDING", "HOLDING", "PARSING", "STATES", "UPGRADED", "UPGRADING", "State",
]


@dataclass(frozen=True, slots=True, eq=False)
class State:
    """One row of the table."""

    name: str
    parses: bool
    """Whether bytes go straight to the parser."""
    starts: bool
    """Whether a request that is complete may start at once."""
    half_closes: bool
    """Whether a client that sends no more still gets the answers that are due."""
    times: bool
    """Whether the deadlines of requests, and of the silence between them, hold."""
    moves: tuple[str, ...]
    """The states that may follow."""

    def after(self, next_state: State) -> State:
        """The state after a move to `next_state`: that, or this one where it is the end.

        Raises RuntimeError for a move that the table does not have.
        """
        if next_state is self or next_state.name in self.moves:
            return next_state
        if self.name in _ENDS:
            return self
        raise RuntimeError(f"a connection that is {self.name} cannot be {next_state.name}: "
                           f"expected {', '.join(self.moves)}")

    def __repr__(self) -> str:
        return self.name


_ENDS = ("DISCARDING", "CLOSED")

#                   name          parses starts half_closes times  moves
PARSING = State(    "PARSING",    True,  True,  True,       True,
                    ("HOLDING", "UPGRADING", "UPGRADED", *_ENDS))  # fmt: skip
HOLDING = State(    "HOLDING",    False, False, True,       True,
                    ("PARSING", "UPGRADING", "UPGRADED", *_ENDS))  # fmt: skip
UPGRADING = State(  "UPGRADING",  False, False, False,      False,
                    ("PARSING", "UPGRADED", *_ENDS))  # fmt: skip
UPGRADED = State(   "UPGRADED",   False, False, False,      False, _ENDS)  # fmt: skip
DISCARDING = State( "DISCARDING", False, False, False,      True,  ("CLOSED",))  # fmt: skip
CLOSED = State(     "CLOSED",     False, False, False,      False, ())  # fmt: skip

STATES = (PARSING, HOLDING, UPGRADING, UPGRADED, DISCARDING, CLOSED)
