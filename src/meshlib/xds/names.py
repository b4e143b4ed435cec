"""Names of resources: the old plain ones, and ``xdstp://authority/type/id?key=value`` of federated control planes.

Source: gRFC A47; xDS naming (``xds.core.v3.ResourceName``).
"""

from __future__ import annotations

__all__ = ["authority_of", "canonical"]

_SCHEME = "xdstp://"


def authority_of(name: str) -> str:
    """The authority of an ``xdstp`` name; ``""`` for a plain name, which belongs to the top-level servers."""
    return name.removeprefix(_SCHEME).partition("/")[0] if name.startswith(_SCHEME) else ""


def canonical(name: str) -> str:
    """The one spelling of a name: the parameters of an ``xdstp`` name are a set, sorted by key, the last of a key wins.

    A fragment (``#``) holds directives for a client, and is no part of the name.
    """
    if not name.startswith(_SCHEME):
        return name
    path, mark, query = name.partition("#")[0].partition("?")
    if not mark:
        return path
    parameters: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        key, _, value = pair.partition("=")
        parameters[key] = value
    ordered = "&".join(f"{key}={value}" for key, value in sorted(parameters.items()))
    return f"{path}?{ordered}" if ordered else path
