"""How one endpoint is picked among those that may be."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = [
    "BalancerKind",
    "HashKey",
    "LoadBalancer",
    "LoadReports",
    "PeakEwma",
    "SlowStart",
    "SubsetFallback",
    "SubsetSelector",
    "Subsets",
    "ZoneAware",
]


class BalancerKind(Enum):
    """Load-balancing algorithms, in Istio's words; the last two are Envoy's and Finagle's, which Istio cannot name."""

    ROUND_ROBIN = "ROUND_ROBIN"
    LEAST_REQUEST = "LEAST_REQUEST"
    RANDOM = "RANDOM"
    PASSTHROUGH = "PASSTHROUGH"
    RING_HASH = "RING_HASH"
    MAGLEV = "MAGLEV"
    CLIENT_SIDE_WEIGHTED_ROUND_ROBIN = "CLIENT_SIDE_WEIGHTED_ROUND_ROBIN"
    PEAK_EWMA = "PEAK_EWMA"

    @property
    def hashes(self) -> bool:
        """Whether a key decides."""
        return self in (BalancerKind.RING_HASH, BalancerKind.MAGLEV)


@dataclass(frozen=True, slots=True)
class HashKey:
    """Where a consistent-hash key comes from (Istio ``ConsistentHashLB``, Envoy ``hash_policy``).

    Attributes:
        source: ``header``, ``cookie``, ``source_ip`` or ``query``.
        name: Header, cookie or parameter name; for ``source_ip`` the caller's address, ``""`` when unknown.
        ttl: Cookie only: None never generates one, 0 makes a session cookie, else seconds of Max-Age.
        path: Cookie only: Path attribute.
        attributes: Cookie only: further attributes as (name, value); an empty value is a bare name.
        terminal: Stop at this key when it gave a value.
        kept: Cookie only: one that was made here is remembered and used by later calls that come without it.
    """

    source: str
    name: str = ""
    ttl: float | None = None
    path: str = ""
    attributes: tuple[tuple[str, str], ...] = ()
    terminal: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True)
class SlowStart:
    """A new endpoint's weight grows over ``window`` seconds from ``min_ratio`` to 1, exponent 1/aggression."""

    window: float
    min_ratio: float = 0.1
    aggression: float = 1.0


@dataclass(frozen=True, slots=True)
class LoadReports:
    """Weights from what endpoints report of their load (gRFC A58, A114; Envoy's client-side weighted round robin).

    Attributes:
        blackout: Seconds for which the reports of a new endpoint count for nothing.
        expiration: Seconds after which a report that was not renewed counts for nothing.
        update: Seconds between two computations of the weights, at least 0.1.
        error_penalty: How much an error weighs against an endpoint, at least 0.
        metrics: Names of metrics whose greatest is the utilization, for example ``named_metrics.queue`` or
            ``mem_utilization``; where none is reported the application's utilization is, then the CPU's.
        out_of_band: Seconds between two reports that endpoints of gRPC channels are asked for beside the RPCs; None
            leaves it at those that come with answers.
    """

    blackout: float = 10.0
    expiration: float = 180.0
    update: float = 1.0
    error_penalty: float = 1.0
    metrics: tuple[str, ...] = ()
    out_of_band: float | None = None


@dataclass(frozen=True, slots=True)
class PeakEwma:
    """Latency as an average that jumps to peaks and decays (Finagle, linkerd).

    Attributes:
        decay: Seconds in which a measurement loses all but 1/e of its weight.
        initial: Seconds taken for the latency of an endpoint that has not answered yet.
    """

    decay: float = 10.0
    initial: float = 0.03


@dataclass(frozen=True, slots=True)
class ZoneAware:
    """Prefer endpoints of the caller's zone in proportion to what each zone can take (Envoy zone-aware routing).

    Who calls from where stands at the endpoints' groups: ``LocalityEndpoints.callers`` and ``near``.

    Attributes:
        min_cluster_size: With fewer healthy endpoints at priority 0 all zones are alike.
    """

    min_cluster_size: int = 6


class SubsetFallback(Enum):
    """What becomes of a request whose subset is empty: it fails, or goes to any, to the default, or to a wider one."""

    NO_FALLBACK = "NO_FALLBACK"
    ANY_ENDPOINT = "ANY_ENDPOINT"
    DEFAULT_SUBSET = "DEFAULT_SUBSET"
    KEYS_SUBSET = "KEYS_SUBSET"


@dataclass(frozen=True, slots=True)
class SubsetSelector:
    """Labels that a subset may be chosen by, all of them together.

    Attributes:
        keys: Names of labels.
        fallback: Where no endpoint has the wanted values; None does as ``Subsets`` says.
        fallback_keys: Some of ``keys``, which are left for ``KEYS_SUBSET``.
    """

    keys: tuple[str, ...]
    fallback: SubsetFallback | None = None
    fallback_keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Subsets:
    """Subsets inside one cluster, chosen by a route's ``metadata_match`` (Envoy ``lb_subset_config``).

    Attributes:
        selectors: What may be chosen by; a route that asks for other labels falls back.
        fallback: See ``SubsetFallback``; not ``KEYS_SUBSET``.
        default: Labels and values of the default subset.
    """

    selectors: tuple[SubsetSelector, ...]
    fallback: SubsetFallback = SubsetFallback.NO_FALLBACK
    default: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """How one endpoint is picked among the healthy ones.

    Attributes:
        kind: The algorithm.
        hash_keys: Consistent hash only.
        min_ring_size: Ring hash only.
        table_size: Maglev only, a prime.
        slow_start: Round robin, least request and client-side weighted round robin only.
        panic_ratio: Below this share of healthy endpoints all are used; 0 never does (Istio's default).
        locality_weighted: Draw a locality by weight first, then an endpoint inside it.
        overprovisioning: Health that counts as full is 1/overprovisioning; Envoy's 140 percent.
        zone_aware: Inside priority 0, see ``ZoneAware``; None takes all zones for alike.
        max_ring_size: Ring hash only.
        hash_balance_factor: Consistent hash only: no endpoint gets more than this percentage, above 100, of an even
            share of the requests under way; 0 bounds nothing.
        choice_count: Least request only: how many different endpoints are drawn and compared.
        active_request_bias: Least request with unequal weights only: a weight is divided by the requests under way,
            and one, to this power.
        load_reports: Client-side weighted round robin only.
        peak_ewma: Peak EWMA only.
        subset_size: Use no more than so many endpoints of a priority, others in other processes; 0 uses all.
        fail_on_panic: In panic use nobody instead of everybody.
        subsets: Subsets that routes choose by labels; None has none, and what routes ask for counts for nothing.
    """

    kind: BalancerKind = BalancerKind.LEAST_REQUEST
    hash_keys: tuple[HashKey, ...] = ()
    min_ring_size: int = 1024
    table_size: int = 65537
    slow_start: SlowStart | None = None
    panic_ratio: float = 0.0
    locality_weighted: bool = False
    overprovisioning: float = 1.4
    zone_aware: ZoneAware | None = None
    max_ring_size: int = 8 * 1024 * 1024
    hash_balance_factor: int = 0
    choice_count: int = 2
    active_request_bias: float = 1.0
    load_reports: LoadReports = LoadReports()
    peak_ewma: PeakEwma = PeakEwma()
    subset_size: int = 0
    fail_on_panic: bool = False
    subsets: Subsets | None = None
