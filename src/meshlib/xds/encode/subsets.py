"""Subsets inside a cluster on the wire (Envoy ``LbSubsetConfig``)."""

from __future__ import annotations

from typing import Any

from meshlib.model.policy import Subsets
from meshlib.xds.encode.values import struct
from meshlib.xds.messages import cluster_pb2

__all__ = ["write_subsets"]

_CONFIG = cluster_pb2.Cluster.LbSubsetConfig


def write_subsets(subsets: Subsets, made: Any) -> None:
    """``LbSubsetConfig``."""
    made.fallback_policy = _CONFIG.LbSubsetFallbackPolicy.Value(subsets.fallback.value)
    if subsets.default:
        made.default_subset.CopyFrom(struct(dict(subsets.default)))
    for selector in subsets.selectors:
        entry = made.subset_selectors.add(keys=selector.keys, fallback_keys_subset=selector.fallback_keys)
        if selector.fallback is not None:
            kinds = _CONFIG.LbSubsetSelector.LbSubsetSelectorFallbackPolicy
            entry.fallback_policy = kinds.Value(selector.fallback.value)
