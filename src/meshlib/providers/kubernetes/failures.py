"""What went wrong with a request to the API server, in one shape for HTTP, TLS, sockets and events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Failure", "RequestFailed", "of_status"]


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a list or a watch did not go on.

    Attributes:
        message: For people.
        status: HTTP status, also of a ``Status`` object in an event; 0 when there was no answer.
        too_new: The server does not know the resource version yet, or never will (``ResourceVersionTooLarge``).
        retry_after: Seconds that the server wants us to stay away.
        away: Nobody answered the connection.
    """

    message: str
    status: int = 0
    too_new: bool = False
    retry_after: float = 0.0
    away: bool = False

    @property
    def is_gone(self) -> bool:
        """The resource version, or the continuation of a list, is too old (410, ``Expired``)."""
        return self.status == 410

    @property
    def is_refused(self) -> bool:
        """Asking again soon is of no use: forbidden, or there is no such resource."""
        return self.status in (403, 404, 405)


class RequestFailed(Exception):
    """Carries a failure out of the I/O."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


def of_status(value: Mapping[str, Any], code: int = 0, retry_after: float = 0.0) -> Failure:
    """The failure that a ``Status`` object tells; ``code`` where it tells none.

    Source: Kubernetes ``meta/v1`` ``Status``: 410 ``Expired`` or ``Gone``, 504 ``Timeout`` with the cause
    ``ResourceVersionTooLarge``, ``details.retryAfterSeconds``.
    """
    given, details = value.get("code"), value.get("details")
    number = given if isinstance(given, int) else code
    reason = str(value.get("reason") or "")
    details = details if isinstance(details, dict) else {}
    causes = details.get("causes")
    reasons = {each.get("reason") for each in causes if isinstance(each, dict)} if isinstance(causes, list) else set()
    seconds = details.get("retryAfterSeconds")
    text = " ".join(str(value.get("message") or "").split())[:300]
    return Failure(
        f"{number} {reason}: {text}" if reason else f"{number} {text}",
        410 if reason in ("Expired", "Gone") else number,
        "ResourceVersionTooLarge" in reasons,
        max(retry_after, float(seconds) if isinstance(seconds, int) else 0.0),
    )
