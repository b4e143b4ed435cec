"""Any xDS control plane as a source: istiod, Envoy's and gRPC's kinds (extra ``meshlib[xds]``).

``provider`` is the public class, ``streams`` holds one stream (``wire``) with each server, by its ``credentials``;
``disk`` keeps what was good, and ``status_service`` shows what is known. What is asked, and what comes of the answers,
``meshlib.xds.ads`` decides.
"""

from meshlib.providers.xds.provider import XdsProvider

__all__ = ["XdsProvider"]
