"""Subsets inside a cluster off the wire, and what routes ask of them (Envoy ``LbSubsetConfig``, ``metadata_match``)."""

from __future__ import annotations

from typing import Any

from meshlib.model.policy import SubsetFallback, Subsets, SubsetSelector
from meshlib.xds.decode.findings import Place
from meshlib.xds.messages import cluster_pb2

__all__ = ["metadata_match", "subsets", "texts"]

_CONFIG = cluster_pb2.Cluster.LbSubsetConfig
_SELECTOR = _CONFIG.LbSubsetSelector


def texts(values: dict[str, Any], at: Place) -> tuple[tuple[str, str], ...]:
    """The values that are texts, in order of their names; others have no effect."""
    at.ignored(*(name for name, value in values.items() if not isinstance(value, str)))
    return tuple(sorted((name, value) for name, value in values.items() if isinstance(value, str)))


def metadata_match(message: Any, at: Place) -> tuple[tuple[str, str], ...]:
    """What a route or a weighted destination asks of endpoints; gRPC asks nothing."""
    if not message.HasField("metadata_match"):
        return ()
    place = at.field("metadata_match")
    if at.is_grpc:
        place.has_no_effect()
        return ()
    place.ignored(*(name for name in message.metadata_match.filter_metadata if name != "envoy.lb"))
    return texts(_plain(message.metadata_match.filter_metadata.get("envoy.lb")), place)


def _plain(found: Any) -> dict[str, Any]:
    return {} if found is None else dict(found.items())


def subsets(config: Any, at: Place) -> Subsets | None:
    """The subsets of a cluster; None without a selector, and for gRPC."""
    if at.is_grpc or not config.subset_selectors:
        at.has_no_effect()
        return None
    at.only(config, {"fallback_policy", "default_subset", "subset_selectors"})
    return Subsets(
        tuple(_selector(each, at.field("subset_selectors", n)) for n, each in enumerate(config.subset_selectors)),
        SubsetFallback(_CONFIG.LbSubsetFallbackPolicy.Name(config.fallback_policy)),
        texts(_plain(config.default_subset), at.field("default_subset")),
    )


def _selector(message: Any, at: Place) -> SubsetSelector:
    at.only(message, {"keys", "fallback_policy", "fallback_keys_subset"})
    name = _SELECTOR.LbSubsetSelectorFallbackPolicy.Name(message.fallback_policy)
    fallback = None if name == "NOT_DEFINED" else SubsetFallback(name)
    keys, fewer = tuple(sorted(set(message.keys))), tuple(sorted(set(message.fallback_keys_subset)))
    if fallback is SubsetFallback.KEYS_SUBSET and not set(fewer) < set(keys):
        at.field("fallback_keys_subset").error("is not a strict subset of keys")
    return SubsetSelector(keys, fallback, fewer)
