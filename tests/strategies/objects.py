"""Whole objects of every kind, and worlds of objects that refer to each other."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from meshlib.config.resources.kinds import KINDS
from tests.strategies import words
from tests.strategies.damage import damage
from tests.strategies.messages import messages

__all__ = ["OBJECT_KINDS", "objects", "worlds"]

OBJECT_KINDS = sorted({kind for _, kind in KINDS})
"""Every kind that the loader knows; kinds of one name in two groups are drawn together."""


def objects(*kinds: str, damaged: bool = False) -> st.SearchStrategy[dict[str, Any]]:
    """Objects of these kinds (all by default), as plain mappings; ``damaged`` ones have something wrong in them."""
    wanted = [place for place in KINDS if not kinds or place[1] in kinds]
    if not wanted:
        raise ValueError(f"no such kind: {', '.join(kinds)}")
    good = st.one_of([_of_kind(group, kind) for group, kind in sorted(wanted)])
    return damage(good) if damaged else good


def _of_kind(group: str, kind: str) -> st.SearchStrategy[dict[str, Any]]:
    known = KINDS[group, kind]
    versions = [f"{group}/{version}" if group else version for version in sorted(known.versions)]
    head = st.fixed_dictionaries(
        {"apiVersion": st.sampled_from(versions), "kind": st.just(kind), "metadata": _metadata()}
    )
    spec = messages(known.spec)
    if known.field:
        return st.builds(lambda outer, inner: {**outer, known.field: inner}, head, spec)
    return st.builds(lambda outer, inner: {**inner, **outer}, head, spec)


def _metadata() -> st.SearchStrategy[dict[str, Any]]:
    labels = st.dictionaries(words.texts("labels"), words.texts("labels"), max_size=2)
    optional = {
        "namespace": st.sampled_from(words.NAMESPACES),
        "labels": labels,
        "annotations": labels,
        "creationTimestamp": st.sampled_from(["2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z"]),
    }
    return st.fixed_dictionaries({"name": st.sampled_from(words.NAMES)}, optional=optional)


def worlds(*, damaged: bool = False, most: int = 6) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Some objects: services that exist, and whatever refers to them."""
    routing = objects("VirtualService", "DestinationRule", "ServiceEntry", "Service", "Sidecar", "EndpointSlice")
    kinds = [_SERVICES, _RULES, routing, objects()]
    if damaged:
        kinds.append(objects(damaged=True))
    return st.lists(st.one_of(kinds), min_size=1, max_size=most)


_SERVICES = st.builds(
    lambda name, namespace, port, protocol: {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"ports": [{"name": protocol, "port": port}]},
    },
    st.sampled_from(words.NAMES),
    st.sampled_from(words.NAMESPACES),
    st.sampled_from([80, 81, 443]),
    st.sampled_from(["http", "grpc", "tcp", "https", ""]),
)
_DESTINATIONS = st.builds(
    lambda host, subset, weight: {
        "destination": {"host": host, **({"subset": subset} if subset else {})},
        "weight": weight,
    },
    st.sampled_from(words.HOSTS[:5]),
    st.sampled_from(["", "v1", "v2", "v9"]),
    st.integers(1, 3),
)
_CONDITIONS = st.one_of(
    st.builds(
        lambda kind, text: {"uri": {kind: text}}, st.sampled_from(["exact", "prefix", "regex"]), words.texts("prefix")
    ),
    st.builds(lambda name, text: {"headers": {name: {"exact": text}}}, words.texts("headers"), words.texts("exact")),
    st.builds(lambda port: {"port": port}, st.sampled_from([80, 81])),
    st.builds(lambda name: {"sourceNamespace": name}, st.sampled_from(words.NAMESPACES)),
)
_RULES = st.builds(
    lambda name, namespace, host, rules: {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": [host], "http": rules},
    },
    st.sampled_from(words.NAMES),
    st.sampled_from(words.NAMESPACES),
    st.sampled_from(words.HOSTS[:7]),
    st.lists(
        st.fixed_dictionaries(
            {"route": st.lists(_DESTINATIONS, min_size=1, max_size=2)},
            optional={"match": st.lists(_CONDITIONS, min_size=1, max_size=2), "timeout": words.durations()},
        ),
        min_size=1,
        max_size=3,
    ),
)
