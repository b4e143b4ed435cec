"""From the model to Envoy's v3 resources, as istiod would write them.

Source: Istio ``pilot/pkg/networking/core``. What Envoy has no field for travels in ``metadata`` under ``istio`` and
``meshlib``, so that ``decode(encode(x)) == x``.
"""

from meshlib.xds.encode.clusters import cluster
from meshlib.xds.encode.endpoints import load_assignment
from meshlib.xds.encode.listeners import api_listener, listener
from meshlib.xds.encode.routes import route_configuration, virtual_host
from meshlib.xds.encode.snapshot import clusters, tables, unknown_hosts

__all__ = [
    "api_listener",
    "cluster",
    "clusters",
    "listener",
    "load_assignment",
    "route_configuration",
    "tables",
    "unknown_hosts",
    "virtual_host",
]
