"""The one question: what differs between two snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshlib.diff.objects import diff_objects
from meshlib.diff.requests import diff_requests
from meshlib.diff.result import Diff
from meshlib.diff.traffic import Recorded, Traffic
from meshlib.model.snapshot import Snapshot

__all__ = ["diff"]


def diff(
    old: Snapshot, new: Snapshot, requests: Traffic | Mapping[Recorded, int] | Iterable[Recorded] | None = None
) -> Diff:
    """What differs between two configurations.

    Args:
        old: Before.
        new: After.
        requests: Recorded requests, alone or with counts: the answer is which of them would be treated differently.
            None compares what was compiled: hosts, rules, clusters, endpoints.
    """
    if requests is None:
        return diff_objects(old, new)
    if isinstance(requests, Traffic):
        requests = requests.counts
    pairs = requests.items() if isinstance(requests, Mapping) else ((each, 1) for each in requests)
    return diff_requests(old, new, pairs)
