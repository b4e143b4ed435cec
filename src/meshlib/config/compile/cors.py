"""Cross-origin rules in the model's form.

Source: Istio ``route.go`` (``TranslateCORSPolicy``): lists are joined with ``,``; the deprecated ``allowOrigin`` counts
only where ``allowOrigins`` is absent; preflights of other origins are forwarded unless the policy says IGNORE.
"""

from __future__ import annotations

from meshlib.config.compile.matches import text_match
from meshlib.config.resources.virtual_service import CorsPolicy, StringMatch, UnmatchedPreflights
from meshlib.model.route import Cors

__all__ = ["cors_of"]


def cors_of(given: CorsPolicy | None) -> Cors | None:
    """The policy of a rule, None where it has none."""
    if given is None:
        return None
    origins = given.allow_origins or [StringMatch(exact=origin) for origin in given.allow_origin]
    return Cors(
        tuple(found for origin in origins if (found := text_match(origin)) is not None),
        ",".join(given.allow_methods),
        ",".join(given.allow_headers),
        ",".join(given.expose_headers),
        None if given.max_age is None else round(given.max_age),
        bool(given.allow_credentials),
        given.unmatched_preflights is not UnmatchedPreflights.IGNORE,
    )
