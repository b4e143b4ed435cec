"""One of the weighted clusters of a rule, ready to be sent to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.dataplane import headers as header_ops
from meshlib.dataplane.reply import bind_rewrite
from meshlib.model.route import Forward, Route, WeightedCluster

if TYPE_CHECKING:
    from meshlib.dataplane.cluster import PreparedCluster

__all__ = ["Destination"]


class Destination:
    """A weighted cluster of a route, with its header operations and rewrites merged into the rule's.

    Attributes:
        name: Cluster name, also when the cluster does not exist.
        cluster: None when host, port or subset do not exist.
        weight: Share relative to the sum.
        subset: Labels and values that choose among the cluster's endpoints, usually none.
        changes: Whether headers, authority or path are changed at all.
        inner_levels: How many of the levels of operations on requests are the destination's own.
    """

    __slots__ = (
        "changes",
        "cluster",
        "host_rewrite",
        "inner_levels",
        "name",
        "path_rewrite",
        "request_ops",
        "response_ops",
        "subset",
        "tells_host",
        "weight",
    )

    def __init__(self, weighted: WeightedCluster, route: Route, action: Forward, cluster: PreparedCluster | None):
        self.name = weighted.cluster
        self.cluster = cluster
        self.weight = weighted.weight
        self.subset = weighted.metadata_match
        outer, coming_back = route.outer_request_headers, route.outer_response_headers
        names = header_ops.Names(route.name, weighted.cluster if cluster is not None else "")
        sent, received = (weighted.request_headers, route.request_headers, *outer), weighted.response_headers
        self.request_ops = header_ops.bind_ops(*sent, names=names)
        self.inner_levels = 1 if weighted.request_headers else 0
        self.response_ops = header_ops.bind_ops(received, route.response_headers, *coming_back, names=names)
        self.host_rewrite = weighted.host_rewrite
        self.tells_host = action.append_forwarded_host
        own = weighted.path_rewrite is not None or weighted.regex_rewrite is not None
        path, regex = (
            (weighted.path_rewrite, weighted.regex_rewrite) if own else (action.path_rewrite, action.regex_rewrite)
        )
        self.path_rewrite = bind_rewrite(path, regex, route.match.path)
        authority = (self.host_rewrite, action.host_rewrite, action.host_from_header, action.host_from_path)
        self.changes = bool(self.request_ops or self.path_rewrite is not None or any(n is not None for n in authority))
