"""When a response says that one may come back: ``Retry-After`` and headers of its kind.

The headers are tried in the order of the policy; one whose value is no number, not above zero or beyond the cap is
passed over. A moment in Unix time is taken relative to the response's own ``Date``, so that it means what the server
meant whatever our clock says (Envoy takes its own clock); without a ``Date`` it means nothing.

Source: Envoy ``ResetHeaderParser``, ``rate_limited_retry_back_off``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from email.utils import parsedate_to_datetime

__all__ = ["reset_after"]


def reset_after(
    names: Sequence[tuple[str, bool]], headers: Iterable[tuple[bytes, bytes]], longest: float
) -> float | None:
    """Seconds to wait, above 0 and at most ``longest``; None where no header says so.

    Args:
        names: Header name in lower case, and whether its value is Unix time.
        headers: Those of the response.
        longest: Cap in seconds.
    """
    found = {name.lower().decode("latin-1"): value.decode("latin-1").strip() for name, value in headers}
    for name, is_time in names:
        text = found.get(name, "")
        if text.isascii() and text.isdigit():
            seconds = float(text)
            if is_time:
                sent = _sent_at(found.get("date", ""))
                seconds = 0.0 if sent is None else seconds - sent
            if 0 < seconds <= longest:
                return seconds
    return None


def _sent_at(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
