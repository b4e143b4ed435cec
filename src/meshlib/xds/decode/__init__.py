"""From Envoy's v3 resources to the model: messages, packed messages or protobuf JSON.

Each function gives the value together with the paths of fields that are set and cannot be honoured, or raises
``InvalidResource`` with every problem found. Which rules of validation hold is the ``Profile``'s business.
"""

from meshlib.xds.decode.filters import HttpFilters, http_filters
from meshlib.xds.decode.findings import Decoded, InvalidResource, Profile
from meshlib.xds.decode.rbac import decode_rbac
from meshlib.xds.decode.routes import route_configuration

__all__ = [
    "Decoded",
    "HttpFilters",
    "InvalidResource",
    "Profile",
    "decode_rbac",
    "http_filters",
    "route_configuration",
]
