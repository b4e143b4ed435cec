"""Names into addresses: who is asked, when again, and what holds meanwhile.

``names`` decides on a clock it is told and waits for nothing; ``resolving`` asks, in the background; ``dnspython`` and
``system`` are whom it asks.
"""

from meshlib.dns.answers import Answer, LookupFailed, Resolver, Target
from meshlib.dns.names import Names
from meshlib.dns.resolving import Resolving, default_resolver

__all__ = ["Answer", "LookupFailed", "Names", "Resolver", "Resolving", "Target", "default_resolver"]
