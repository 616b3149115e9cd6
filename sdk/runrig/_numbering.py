"""The order of the envelopes of a stream, as their receiver sees it."""

from __future__ import annotations

from runrig.errors import ProtocolError


class Numbering:
    """Drops repeats and ends the stream at a gap, so that nothing overtaken or lost goes unnoticed."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = 0

    def admits(self, number: int) -> bool:
        """Say whether the envelope is new; False: a repeat, to be dropped. Raise ProtocolError at a gap."""
        if number == 0:
            raise ProtocolError("envelope 0: envelopes are numbered from 1")
        if number <= self._last:
            return False
        if number != self._last + 1:
            raise ProtocolError(f"envelope {number} follows {self._last}: one was lost; connect again")
        self._last = number
        return True
