"""When another attempt of a call starts beside one that is slow.

Two ways lead here: a ClientPolicy's ``hedge``, which starts another attempt some time after the last; and Envoy's
``hedge_on_per_try_timeout``, by which an attempt whose per-try timeout runs out goes on beside the retry.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Hedging"]


class Hedging(NamedTuple):
    """How attempts of one call may run side by side.

    Attributes:
        after: Seconds from the start of one attempt to that of the next; None starts none by time.
        most: Attempts started so, the first included.
        on_timeout: A per-try timeout starts a retry, whatever may be retried, and ends nothing.
    """

    after: float | None = None
    most: int = 1
    on_timeout: bool = False
