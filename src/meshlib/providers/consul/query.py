"""The rules of one loop of blocking queries, without a clock or a socket.

Source: Consul's documentation, "Blocking Queries", implementation details: reset an index that goes backwards; never
wait on an index below 1; limit the rate of the loop by a token bucket, so that a few quick changes pass at once and a
storm of them becomes polling.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BlockingQuery"]


@dataclass(slots=True)
class BlockingQuery:
    """What is known of one query.

    Attributes:
        burst: Answers that may follow each other without a pause.
        interval: Seconds in which one more becomes free.
        index: To wait on; 0 asks without waiting.
        known: Heard last.
        resets: How often the index went backwards: the server lost its history, or another one answers.
    """

    burst: float = 5.0
    interval: float = 1.0
    index: int = 0
    known: int = 0
    resets: int = 0
    _tokens: float = -1.0
    _at: float = 0.0

    def answered(self, header: str | None) -> bool:
        """Take the ``X-Consul-Index`` of an answer, None where it has none; whether the index went backwards.

        After a fall that a waiting query tells of, the next one does not wait, so that no change is missed. What is no
        number above zero counts as 1, which waits, where 0 would make a busy loop of a server's bug.
        """
        heard = int(header) if header is not None and header.isascii() and header.isdigit() else 0
        heard = max(1, heard)
        fell, self.known = heard < self.known, heard
        self.resets += fell
        self.index = 0 if heard < self.index else heard
        return fell

    def restart(self) -> None:
        """Ask without waiting the next time: the connection broke, and who answers now may know less."""
        self.index = 0

    def pause(self, now: float) -> float:
        """Seconds until the next query may be sent; it is counted as sent then.

        Args:
            now: Seconds on any clock that goes forwards.
        """
        if self._tokens < 0:
            self._tokens, self._at = self.burst, now
        self._tokens = min(self.burst, self._tokens + max(0.0, now - self._at) / self.interval)
        self._at = now
        self._tokens -= 1.0
        if self._tokens >= 0:
            return 0.0
        wait = -self._tokens * self.interval
        self._tokens, self._at = 0.0, now + wait
        return wait
