"""Path templates of AuthorizationPolicies: ``/users/{*}/posts`` and ``/static/{**}``.

``{*}`` stands for one part of a path, ``{**}`` for any number of parts. Source: Istio's AuthorizationPolicy reference.
"""

from __future__ import annotations

__all__ = ["ANY", "ONE", "is_path_template"]

ONE, ANY = "{*}", "{**}"


def is_path_template(path: str) -> bool:
    """Whether a path is a template, and not an exact path, a prefix or a suffix."""
    return ONE in path or ANY in path
