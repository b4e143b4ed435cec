"""How patiently an API server is followed."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "Tuning"]


@dataclass(frozen=True, slots=True)
class Tuning:
    """Sizes and times; the defaults suit a cluster of any size. All times are seconds, and drawn between half and whole
    where many processes would otherwise act at one moment.

    Attributes:
        limit: Objects of one page of a list.
        watch: Longest that one watch is asked for.
        idle: Without a sign of life for so long a watch is taken up over another connection. API servers send bookmarks
            about once a minute; towards one that sends none the time doubles up to ``watch``.
        backoff: Wait after the first failure, doubled by each further one, ``longest`` at most.
        longest: See ``backoff``.
        refused: Wait after 403 and 404.
        confirm: Wait before an empty list is asked for again.
        resync: Everything is listed anew after so long though nothing failed; 0 for never.
        rediscover: Time between looks for kinds that were installed or removed.
        streaming: Ask for lists as streams (``sendInitialEvents``), lighter for servers since Kubernetes 1.32; a server
            that refuses is asked for lists as usual.
        report: Wait before each write into an object's status, where that was asked for.
    """

    limit: int = 500
    watch: float = 600.0
    idle: float = 75.0
    backoff: float = 0.8
    longest: float = 30.0
    refused: float = 60.0
    confirm: float = 5.0
    resync: float = 3600.0
    rediscover: float = 60.0
    streaming: bool = False
    report: float = 10.0


DEFAULT = Tuning()
