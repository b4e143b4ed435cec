"""What an xDS client knows, in the form of Envoy's client status discovery service (CSDS), for debugging.

Source: gRFC A40; ``envoy/service/status/v3/csds.proto``. Times are the wall clock's.
"""

from __future__ import annotations

from typing import Any

from meshlib.xds.ads.cache import Cache, Entry
from meshlib.xds.ads.kinds import Kind
from meshlib.xds.messages import csds_pb2

__all__ = ["client_config"]


def client_config(cache: Cache, node: Any, since: float) -> Any:
    """The ``ClientConfig`` of a client.

    Args:
        cache: What it knows.
        node: The ``Node`` that it sends.
        since: Unix seconds at which the clock of the cache's times stood at 0.
    """
    made = csds_pb2.ClientConfig(node=node)
    for kind in Kind:
        for name, entry in sorted(cache.entries(kind).items()):
            _write(made.generic_xds_configs.add(type_url=kind.url, name=name), kind, entry, since)
    return made


def _write(made: Any, kind: Kind, entry: Entry, since: float) -> None:
    made.version_info, made.client_status = entry.version, entry.status.value
    if entry.value is not None and not entry.is_secret:
        made.xds_config.type_url, made.xds_config.value = kind.url, entry.packed
        made.last_updated.FromMilliseconds(round((since + entry.updated) * 1000))
    if entry.error:
        made.error_state.details, made.error_state.version_info = entry.error, entry.failed_version
        made.error_state.last_update_attempt.FromMilliseconds(round((since + entry.failed_at) * 1000))
