"""How often, when and where a failed attempt is tried again."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["RetryBudget", "RetryPolicy"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Whether a failed attempt is tried again, where, and after how long.

    Attributes:
        attempts: Retries after the first try (Istio ``retries.attempts``, Envoy ``num_retries``), at least 1.
        retry_on: Envoy's words, for example ``connect-failure``, ``5xx``, ``unavailable``.
        retriable_status_codes: Statuses behind the word ``retriable-status-codes``.
        retriable_headers: Response header names (lower case) behind the word ``retriable-headers``.
        per_try_timeout: Seconds one attempt may take until its response headers arrive; None is unbounded.
        per_try_idle_timeout: Seconds without a byte on one attempt; None is unbounded.
        base: Upper bound of the first back-off, seconds.
        cap: Upper bound of any back-off, seconds.
        avoid_previous_hosts: Draw again, up to ``host_selection_attempts`` times, while an endpoint was tried.
        host_selection_attempts: See above.
        remote_localities: After every two attempts leave out the priorities used so far.
        reset_headers: Response headers that say when to come back, as (name, is Unix time).
        reset_cap: Longest wait that such a header may ask for, seconds.
        hedge_on_per_try_timeout: An attempt whose per-try timeout runs out goes on beside the next one, and the first
            good answer is taken (Envoy ``hedge_policy``).

    Source: Envoy ``RetryPolicy``; Istio ``HTTPRetry`` and its built-in policy.
    """

    attempts: int
    retry_on: frozenset[str]
    retriable_status_codes: frozenset[int] = frozenset()
    retriable_headers: frozenset[str] = frozenset()
    per_try_timeout: float | None = None
    per_try_idle_timeout: float | None = None
    base: float = 0.025
    cap: float = 0.250
    avoid_previous_hosts: bool = True
    host_selection_attempts: int = 5
    remote_localities: bool = False
    reset_headers: tuple[tuple[str, bool], ...] = ()
    reset_cap: float = 300.0
    hedge_on_per_try_timeout: bool = False


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """How many retries of a cluster may be under way at once (Envoy ``retry_budget``).

    Attributes:
        ratio: Share of the active requests, 0..1.
        min_concurrency: Retries always allowed.
        interval: Seconds over which requests are counted; 0 counts those under way now.
    """

    ratio: float = 0.2
    min_concurrency: int = 3
    interval: float = 0.0
