"""From Envoy's v3 resources to the model: messages, packed messages or protobuf JSON.

Each function gives the value together with the paths of fields that are set and cannot be honoured, or raises
``InvalidResource`` with every problem found. Which rules of validation hold is the ``Profile``'s business.
"""

from meshlib.xds.decode.clusters import DecodedCluster, cluster
from meshlib.xds.decode.endpoints import Assigned, load_assignment
from meshlib.xds.decode.filters import HttpFilters
from meshlib.xds.decode.findings import Decoded, InvalidResource, Profile
from meshlib.xds.decode.listeners import DecodedListener, Manager, listener
from meshlib.xds.decode.rbac import decode_rbac
from meshlib.xds.decode.routes import route_configuration
from meshlib.xds.decode.secrets import DecodedSecret, secret

__all__ = [
    "Assigned",
    "Decoded",
    "DecodedCluster",
    "DecodedListener",
    "DecodedSecret",
    "HttpFilters",
    "InvalidResource",
    "Manager",
    "Profile",
    "cluster",
    "decode_rbac",
    "listener",
    "load_assignment",
    "route_configuration",
    "secret",
]
