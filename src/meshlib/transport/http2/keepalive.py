"""When an HTTP/2 connection is asked whether its peer is still there; sans-IO.

Source: Istio ``http2KeepAlive``, Envoy ``connection_keepalive``: a PING each ``interval``, and the connection is given
up when its answer does not come within ``timeout``.
"""

from __future__ import annotations

from meshlib.model.policy import Http2KeepAlive
from meshlib.transport.http2.session import Session

__all__ = ["Keepalive"]


class Keepalive:
    """The schedule of one connection; without settings nothing is ever due.

    Attributes:
        due: The moment when ``act`` is to be called next; None is never.
    """

    __slots__ = ("_asked", "_interval", "_session", "_timeout", "due")

    def __init__(self, settings: Http2KeepAlive | None, session: Session, now: float) -> None:
        self._session = session
        self._asked = False
        self._interval = settings.interval if settings is not None else 0.0
        self._timeout = settings.timeout if settings is not None else 0.0
        self.due = now + self._interval if self._interval > 0 else None

    def act(self, now: float) -> bool:
        """Send a PING if one is due; False when the last one was not answered in time.

        While a PING waits for its answer, ``due`` is the moment when it has waited too long.
        """
        if self.due is None or now < self.due:
            return True
        if self._session.pinged:
            return False
        self._session.ping()
        self._asked = True
        self.due = now + self._timeout
        return True

    def answered(self, now: float) -> bool:
        """Something came; whether it was the answer to the PING: then the next one is due an interval later."""
        if self._session.pinged or not self._asked:
            return False
        self._asked = False
        self.due = now + self._interval
        return True
