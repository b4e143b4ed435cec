"""Istio's objects in, the data plane's model out: pure, and forgiving.

``Universe`` indexes a set of resources once; ``Universe.view`` is what one client sees of it, a ``Source`` that
compiles each host at its first use. Nothing here reads a clock, a file or a socket, and nothing raises for bad
configuration: what cannot be used is left out and reported as a ``Problem``.
"""

from meshlib.config.compile.universe import Universe, View

__all__ = ["Universe", "View"]
